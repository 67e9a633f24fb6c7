"""Pictures are read right, whatever their mode; what is no whole picture of a sane size is an ImageError."""

import gzip
import hashlib
import io
import json
import os
import random
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image

from sdcli.errors import ImageError
from sdcli.request import images
from sdcli.request.images import open_picture
from tests.request.made import (
    INK_IS_LIGHT,
    LINEAR_GREY,
    ONLY_GREY_READ,
    RED_IS_GREEN,
    chunk,
    icc,
    png,
    saved,
)


def opened(data: bytes, **more) -> images.OpenedImage:
    return open_picture(io.BytesIO(data), "x", **more)


def palette(image: Image.Image, *colours: int) -> Image.Image:
    image.putpalette(colours)
    return image


def numbers(mode: str, *values) -> Image.Image:
    image = Image.new(mode, (len(values), 1))
    image.putdata(values)
    return image


GREYS = [(0, 0, 0), (85, 85, 85), (170, 170, 170), (255, 255, 255)]
PALETTE = palette(numbers("P", 0, 1, 2), 255, 0, 0, 0, 255, 0, 0, 0, 255)
TABLE = {  # how it is made, the pixels it should have over white, and its alpha
    "1": (png((4, 1), 1, 0, [b"\x50"]), [GREYS[0], GREYS[3]] * 2, None),
    "1+tRNS": (png((2, 1), 1, 0, [b"\x40"], (b"tRNS", b"\0\0")), [GREYS[3], GREYS[3]], [0, 255]),
    "2": (png((4, 1), 2, 0, [b"\x1b"]), GREYS, None),
    "2+tRNS": (png((4, 1), 2, 0, [b"\x1b"], (b"tRNS", b"\0\1")), [GREYS[0], GREYS[3], *GREYS[2:]], [255, 0, 255, 255]),
    "4+tRNS": (png((2, 1), 4, 0, [b"\x5a"], (b"tRNS", b"\0\5")), [GREYS[3], GREYS[2]], [0, 255]),
    "L": (saved(numbers("L", 0, 85, 170, 255), "PNG"), GREYS, None),
    "L+tRNS": (saved(numbers("L", 85, 86), "PNG", transparency=85), [GREYS[3], (86,) * 3], [0, 255]),
    "L JPEG": (saved(Image.new("L", (2, 1), 85), "JPEG", quality=100), [GREYS[1]] * 2, None),
    "LA": (saved(numbers("LA", (0, 255), (0, 0), (0, 128)), "PNG"), [GREYS[0], GREYS[3], (127,) * 3], [255, 0, 128]),
    "16": (png((3, 1), 16, 0, [struct.pack(">3H", 0, 0x55FF, 65535)]), [GREYS[0], GREYS[1], GREYS[3]], None),
    "16+tRNS": (
        png((2, 1), 16, 0, [struct.pack(">2H", 0x5500, 0x5501)], (b"tRNS", b"\x55\0")), [GREYS[3], GREYS[1]], [0, 255]
    ),
    "16 RGB": (png((1, 1), 16, 2, [struct.pack(">3H", 0x01FF, 0x8000, 65535)]), [(1, 128, 255)], None),
    "16 RGB+tRNS": (
        png((2, 1), 16, 2, [bytes([1, 0, 2, 0, 3, 0, 2, 0, 2, 0, 3, 0])], (b"tRNS", b"\1\0\2\0\3\0")),
        [GREYS[3], (2, 2, 3)], [0, 255],
    ),
    "16 LA": (png((2, 1), 16, 4, [struct.pack(">4H", 0x55FF, 65535, 0x5555, 0)]), [GREYS[1], GREYS[3]], [255, 0]),
    "16 RGBA": (png((1, 1), 16, 6, [struct.pack(">4H", 0, 0, 0, 0x8000)]), [(127, 127, 127)], [128]),
    "P": (saved(PALETTE, "PNG"), [(255, 0, 0), (0, 255, 0), (0, 0, 255)], None),
    "P+tRNS": (
        saved(PALETTE, "PNG", transparency=b"\xff\0\x80"), [(255, 0, 0), GREYS[3], (127, 127, 255)], [255, 0, 128]
    ),
    "P+one transparent": (saved(PALETTE, "PNG", transparency=1), [(255, 0, 0), GREYS[3], (0, 0, 255)], [255, 0, 255]),
    "P GIF": (saved(PALETTE, "GIF", transparency=1), [(255, 0, 0), GREYS[3], (0, 0, 255)], [255, 0, 255]),
    "P BMP": (saved(PALETTE, "BMP"), [(255, 0, 0), (0, 255, 0), (0, 0, 255)], None),
    "RGB": (saved(numbers("RGB", (1, 2, 3)), "PNG"), [(1, 2, 3)], None),
    "RGB+tRNS": (
        saved(numbers("RGB", (1, 2, 3), (1, 2, 4)), "PNG", transparency=(1, 2, 3)), [GREYS[3], (1, 2, 4)], [0, 255]
    ),
    "RGB BMP": (saved(numbers("RGB", (1, 2, 3)), "BMP"), [(1, 2, 3)], None),
    "RGB JPEG": (saved(Image.new("RGB", (1, 1), (254, 0, 0)), "JPEG", quality=100), [(254, 0, 0)], None),
    "RGB WebP": (saved(numbers("RGB", (1, 2, 3)), "WEBP", lossless=True), [(1, 2, 3)], None),
    "RGBA": (
        saved(numbers("RGBA", (255, 0, 0, 255), (255, 0, 0, 0), (255, 0, 0, 128)), "PNG"),
        [(255, 0, 0), GREYS[3], (255, 127, 127)], [255, 0, 128],
    ),
    "RGBA WebP": (
        saved(numbers("RGBA", (255, 0, 0, 255), (9, 0, 0, 0)), "WEBP", lossless=True, exact=True),
        [(255, 0, 0), GREYS[3]], [255, 0],
    ),
    "RGBA opaque": (saved(numbers("RGBA", (1, 2, 3, 255)), "PNG"), [(1, 2, 3)], [255]),
}  # fmt: skip


@pytest.mark.parametrize(("data", "pixels", "alpha"), TABLE.values(), ids=TABLE)
def test_every_mode_has_the_pixels_it_should(data, pixels, alpha):
    found = opened(data)
    assert found.image.mode == "RGB"
    assert np.array_equal(np.asarray(found.image)[0], pixels)
    assert (found.alpha and list(found.alpha.tobytes())) == alpha
    assert found.original.mode in ("LA", "RGBA") if alpha else ("L", "RGB")
    assert found.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("name", ["L", "LA", "RGB", "RGBA", "RGB WebP", "RGBA WebP"])
def test_the_original_is_as_it_was_in_the_file(name):
    data = TABLE[name][0]
    with Image.open(io.BytesIO(data)) as image:
        assert opened(data).original.mode == image.mode
        assert opened(data).original.tobytes() == image.tobytes()


def test_colours_hidden_by_a_palettes_transparency_stay_in_the_original():
    assert opened(TABLE["P+tRNS"][0]).original.getpixel((1, 0)) == (0, 255, 0, 0)


@pytest.mark.parametrize(
    ("name", "notes"),
    [
        ("RGB", ()), ("RGBA opaque", ()), ("16", ("16-bit reduced to 8",)), ("LA", ("transparency over white",)),
        ("16 RGBA", ("16-bit reduced to 8", "transparency over white")),
    ],
)  # fmt: skip
def test_what_is_lost_is_said(name, notes):
    assert opened(TABLE[name][0]).notes == notes


def test_the_background_is_one_of_choice():
    found = opened(TABLE["RGBA"][0], background=(0, 0, 64))
    assert [found.image.getpixel((x, 0)) for x in range(3)] == [(255, 0, 0), (0, 0, 64), (128, 0, 32)]
    assert found.notes == ("transparency over #000040",)


def ycck(c: int, m: int, y: int, k: int) -> bytes:
    """A CMYK JPEG as Photoshop writes it: inverted, and its first three channels as YCbCr."""
    first = [255 - v for v in Image.new("RGB", (1, 1), (c, m, y)).convert("YCbCr").getpixel((0, 0))]
    data = saved(Image.new("CMYK", (8, 8), (*first, k)), "JPEG", quality=100)
    place = data.index(b"Adobe") + 11  # its transform: 0 is CMYK, 2 is YCCK
    return data[:place] + b"\2" + data[place + 1 :]


@pytest.mark.parametrize(
    "ink", [(0, 0, 0, 0), (255, 0, 0, 0), (0, 128, 255, 0), (0, 0, 0, 255), (200, 100, 50, 25)]
)
def test_cmyk_comes_out_as_light_not_as_ink(ink):
    expected = [round((255 - each) * (255 - ink[3]) / 255) for each in ink[:3]]
    for data in (saved(Image.new("CMYK", (8, 8), ink), "JPEG", quality=100), ycck(*ink)):
        found = opened(data)
        assert np.abs(np.subtract(found.image.getpixel((3, 3)), expected)).max() <= 3
        assert found.notes == ("converted to sRGB",)
        assert found.original is found.image


MARKED = numbers("RGB", (255, 0, 0), (0, 255, 0), (0, 0, 255)).resize((48, 16), Image.Resampling.NEAREST)
MARKED.paste((255, 255, 255), (0, 8, 16, 16))
LYING = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Transpose that lays an upright picture down


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("side", LYING)
def test_pictures_are_turned_upright(side, kind):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = side
    lying = MARKED if LYING[side] is None else MARKED.transpose(LYING[side])
    options = {"PNG": {}, "JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
    found = opened(saved(lying, kind, exif=exif, **options[kind]))
    assert found.image.size == MARKED.size
    assert np.abs(np.asarray(found.image, int) - np.asarray(MARKED)).max() <= (3 if kind == "JPEG" else 0)
    assert found.original.size == MARKED.size


def test_16_bits_are_turned_upright_too():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = png((2, 1), 16, 0, [struct.pack(">2H", 0, 65535)], (b"eXIf", exif.tobytes()[6:]))
    assert list(opened(data).image.convert("L").tobytes()) == [0, 255]
    assert opened(data).image.size == (1, 2)


def test_broken_exif_leaves_the_picture_as_it_lies():
    assert opened(saved(MARKED, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")).image.size == MARKED.size


def test_a_profile_is_applied_to_what_is_drawn_from_and_kept_with_the_original():
    found = opened(saved(numbers("RGB", (255, 0, 0)), "PNG", icc_profile=RED_IS_GREEN))
    assert found.image.getpixel((0, 0)) == (0, 255, 0)
    assert found.original.getpixel((0, 0)) == (255, 0, 0)
    assert (found.icc, found.notes) == (RED_IS_GREEN, ())


def test_a_grey_profile_is_applied_to_grey():
    found = opened(saved(numbers("LA", (128, 255)), "PNG", icc_profile=LINEAR_GREY))
    assert found.image.getpixel((0, 0)) == (188, 188, 188)  # half the light
    assert found.original.getpixel((0, 0)) == (128, 255)
    assert found.icc == LINEAR_GREY


def test_a_grey_picture_may_have_a_profile_for_colours():
    found = opened(saved(Image.new("L", (8, 8), 77), "JPEG", quality=100, icc_profile=RED_IS_GREEN))
    assert (found.image.getpixel((0, 0)), found.original.mode) == ((77, 77, 77), "L")
    assert found.icc == RED_IS_GREEN


def test_ink_with_a_profile_is_read_by_it():
    for ink, light in ((255, 255), (0, 0)):
        found = opened(
            saved(Image.new("CMYK", (8, 8), (0, 0, 0, ink)), "JPEG", quality=100, icc_profile=INK_IS_LIGHT)
        )
        assert found.image.getpixel((0, 0)) == (light,) * 3
        assert (found.icc, found.notes) == (None, ("converted to sRGB",))


def test_a_profile_that_leads_in_one_direction_alters_the_original():
    found = opened(saved(numbers("RGBA", (255, 0, 0, 7)), "PNG", icc_profile=ONLY_GREY_READ))
    assert found.original.getpixel((0, 0)) == (136, 136, 136, 7)
    assert (found.icc, found.notes[0]) == (None, "converted to sRGB")


@pytest.mark.parametrize(
    "profile",
    [
        b"nothing",
        RED_IS_GREEN[:300],
        LINEAR_GREY,
        INK_IS_LIGHT,
        icc(b"RGB ", b"XYZ ", {}),
        icc(b"Lab ", b"XYZ ", {}),
    ],
    ids=["none", "cut", "grey", "cmyk", "empty", "lab"],
)
def test_a_profile_that_cannot_be_meant_is_noted_and_ignored(profile):
    found = opened(saved(numbers("RGB", (255, 0, 0)), "PNG", icc_profile=profile))
    assert found.image.getpixel((0, 0)) == (255, 0, 0)
    assert found.notes == ("its colour profile is damaged or of another kind, and was ignored",)
    assert found.icc is None


@pytest.mark.parametrize(("kind", "many"), [("PNG", "3"), ("WEBP", "3"), ("GIF", "many")])
def test_of_an_animation_the_first_frame_is_taken(kind, many):
    frames = [Image.new("RGB", (8, 8), (value, 0, 0)) for value in (250, 100, 0)]
    options = {"WEBP": {"lossless": True}}.get(kind, {})
    found = opened(saved(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert found.image.getpixel((0, 0)) == (250, 0, 0)
    assert found.notes == (f"first of {many} frames",)


def test_a_second_picture_in_a_jpeg_is_not_spoken_of():
    frames = [Image.new("RGB", (8, 8), value) for value in ("red", "blue")]
    assert opened(saved(frames[0], "MPO", save_all=True, append_images=frames[1:])).notes == ()


def test_standard_input_and_pipes_are_read_like_files(tmp_path):
    data = TABLE["RGB"][0]
    path = tmp_path / "a.png"
    path.write_bytes(data)
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    with open(reading, "rb") as pipe:
        piped = open_picture(pipe, "standard input")
    assert (
        piped.image.tobytes() == open_picture(path).image.tobytes() == open_picture(str(path)).image.tobytes()
    )
    assert piped.sha256 == images.sha256(path)
    assert piped.name == "standard input"


# What is not a picture.

PLAIN = saved(Image.effect_noise((64, 64), 64).convert("RGB"), "PNG")
WRONG = {
    "empty": (b"", "is empty"),
    "text": (b"a cat sat on a mat\n", "is text"),
    "umlauts": ("Bäume\n".encode(), "is text"),
    "svg": (b'<?xml version="1.0"?>\n<!-- x -->\n<svg xmlns="', "an SVG drawing"),
    "page": (b"<!DOCTYPE html>\n<html><svg>", "a web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid", "run `git lfs pull`"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC picture"),
    "avif": (b"\0\0\0\x18ftypavif\0\0\0\0", "an AVIF picture"),
    "jxl": (b"\xff\x0a\0\1", "a JPEG XL picture"),
    "tiff": (saved(Image.new("L", (1, 1)), "TIFF"), "a TIFF picture"),
    "psd": (b"8BPS\0\1", "a Photoshop file"),
    "pdf": (b"%PDF-1.7", "a PDF"),
    "zip": (b"PK\3\4\0\0", "a zip archive"),
    "safetensors": (struct.pack("<Q", 40) + b'{"a":{"dtype":"F32",', "models go to -m"),
    "zeros": (bytes(1000), "not a picture that is known"),
    "gzip": (gzip.compress(PLAIN), "not a picture that is known"),
    "cut png": (PLAIN[:-500], f"cut-short PNG of {len(PLAIN) - 500} bytes"),
    "header alone": (PLAIN[:33], "cut-short PNG"),
    "signature alone": (PLAIN[:8], "cut-short PNG"),
    "no palette": (png((4, 1), 2, 3, [b"\x1b"]), "damaged"),  # one mutant of 450,000
    "cut jpeg": (saved(MARKED, "JPEG")[:-60], "cut-short JPEG"),
    "cut webp": (saved(MARKED, "WEBP")[:-60], "cut-short WEBP"),
    "cut gif": (saved(MARKED, "GIF")[:-60], "cut-short GIF"),
    "cut bmp": (saved(MARKED, "BMP")[:-60], "cut-short BMP"),
    "flipped": (PLAIN[:60] + bytes([PLAIN[60] ^ 1]) + PLAIN[61:], "damaged"),
}


@pytest.mark.parametrize(("data", "reason"), WRONG.values(), ids=WRONG)
def test_what_is_no_picture_is_one_line_that_names_it(tmp_path, data, reason):
    path = tmp_path / "a picture.png"
    path.write_bytes(data)
    with pytest.raises(ImageError) as error:
        open_picture(path)
    line = str(error.value)
    assert line.startswith(f"{path}: ") and reason in line and "; " in line
    assert "\n" not in line and len(line) - len(str(path)) <= 110


def test_what_cannot_be_opened_says_why(tmp_path):
    for path, reason in [
        (tmp_path, "is a folder"),
        (tmp_path / "none.png", "there is no such file"),
        ("a\0b", "null"),
        ("x" * 300, "too long"),
        ("/dev/full/x", "not a directory"),
    ]:
        with pytest.raises(ImageError, match=reason):
            open_picture(path)


def test_a_file_without_permission_says_so(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(ImageError, match=r"may not be read; check its permissions"):
        open_picture(tmp_path / "a.png")


def test_a_file_too_large_is_not_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MOST_BYTES", 1 << 20)
    path = tmp_path / "a.png"
    path.write_bytes(PLAIN)
    os.truncate(path, (1 << 20) + 1)
    for source in (path, io.BytesIO(path.read_bytes())):
        with pytest.raises(ImageError, match="larger than 1 MiB"):
            open_picture(source, "x")


def test_an_endless_source_is_refused_by_its_first_bytes():
    with open("/dev/zero", "rb") as zeros, pytest.raises(ImageError, match="not a picture"):
        open_picture(zeros, "x")


def test_a_picture_too_large_for_memory_says_so(monkeypatch):
    def refuse(*_, **__):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "convert", refuse)
    with pytest.raises(ImageError, match="x: does not fit into memory; make it smaller first"):
        opened(PLAIN)


def jpeg_in_passes(number: int) -> bytes:
    """A grey progressive JPEG of 8192x8192 pixels that goes over all of them so many times, in few bytes."""

    def part(marker: int, data: bytes) -> bytes:
        return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data

    head = part(0xDB, b"\0" + b"\1" * 64) + part(0xC2, struct.pack(">BHHB", 8, 8192, 8192, 1) + b"\1\x11\0")
    codes = b"".join(
        part(0xC4, kind + b"\1" + bytes(15) + code) for kind, code in ((b"\0", b"\0"), (b"\x10", b"\xe0"))
    )
    again = part(0xDA, b"\1\1\0\1\x3f\x10") + (b"\x7f" * 63)
    return (
        b"\xff\xd8"
        + head
        + codes
        + part(0xDA, b"\1\1\0\0\0\0")
        + bytes(1 << 17)
        + again * number
        + b"\xff\xd9"
    )


def bombs() -> dict[str, bytes]:
    def header(width: int, height: int) -> bytes:
        return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))

    zeros = zlib.compress(bytes(100_000_000), 1)
    text = zlib.compress(bytes(20_000_000))
    jpeg, gif, bmp = (bytearray(saved(Image.new("L", (8, 8)), kind)) for kind in ("JPEG", "GIF", "BMP"))
    start = jpeg.index(b"\xff\xc0") + 5
    jpeg[start : start + 4] = b"\xff\xff\xff\xff"
    gif[6:10] = b"\xff\xff\xff\xff"
    bmp[18:26] = struct.pack("<ii", 60_000, 60_000)
    webp = b"WEBPVP8X" + struct.pack("<IIHBHB", 10, 0, 16_382, 0, 16_382, 0) + b"VP8L\x0a\0\0\0" + bytes(10)
    return {
        "PNG of zeros": PLAIN[:8] + header(10_000, 10_000) + chunk(b"IDAT", zeros) + chunk(b"IEND", b""),
        "PNG of a million by a million": PLAIN[:8] + header(10**6, 10**6),
        "thin PNG": png((1, 1 << 20), 8, 0, [b"\0"] * (1 << 20)),
        "PNG with a large text": png((1, 1), 8, 0, [b"\0"], (b"zTXt", b"x\0\0" + text)),
        "PNG with a large profile": png((1, 1), 8, 0, [b"\0"], (b"iCCP", b"x\0\0" + text)),
        "JPEG": bytes(jpeg),
        "JPEG in passes": jpeg_in_passes(1000),
        "GIF": bytes(gif),
        "BMP": bytes(bmp),
        "WebP": b"RIFF" + struct.pack("<I", len(webp)) + webp,
    }  # fmt: skip


CHILD = """
import io, json, resource, sys, time
from PIL import Image, ImageCms
from sdcli.errors import ImageError
from sdcli.request.images import open_picture
open_picture(io.BytesIO(sys.stdin.buffer.read(int(sys.argv[1]))), "warm")
told = []
for number in sys.argv[2:]:
    data = sys.stdin.buffer.read(int(number))
    size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 100_000_000, -1))
    start = time.process_time()
    try:
        open_picture(io.BytesIO(data), "x")
        told.append(["opened", 0])
    except ImageError as error:
        told.append([str(error), time.process_time() - start])
print(json.dumps(told))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits its memory as Linux does")
def test_bombs_are_refused_early_and_in_little_memory():
    each = bombs()
    sizes = [str(len(data)) for data in (PLAIN, *each.values())]
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD, *sizes],
        input=PLAIN + b"".join(each.values()), capture_output=True, check=True,
    )  # fmt: skip
    for name, (said, seconds) in zip(each, json.loads(ran.stdout), strict=True):
        assert said.startswith("x: "), (name, said)
        assert seconds < 0.2, (name, said, seconds)


# Damage of every kind: an ImageError, or a picture.


def seeds() -> list[bytes]:
    colours = Image.effect_mandelbrot((24, 18), (-2, -1.5, 1, 1.5), 50).convert("RGB")
    colours.putalpha(Image.radial_gradient("L").resize((24, 18)))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    made = [TABLE[name][0] for name in TABLE if name.startswith(("1", "2", "4", "16"))]
    for kind, modes in {
        "PNG": ["1", "L", "LA", "P", "RGB", "RGBA"],
        "JPEG": ["L", "RGB", "CMYK"],
        "WEBP": ["RGB", "RGBA"],
        "GIF": ["L", "P"],
        "BMP": ["1", "L", "P", "RGB"],
    }.items():
        more = {} if kind in ("GIF", "BMP") else {"exif": exif}
        for mode in modes:
            image = colours.convert("RGB").convert(mode) if mode in ("P", "CMYK") else colours.convert(mode)
            profile = {"L": LINEAR_GREY, "LA": LINEAR_GREY, "CMYK": INK_IS_LIGHT}.get(mode, RED_IS_GREEN)
            made.append(saved(image, kind, **more, **({"icc_profile": profile} if more else {})))
    made.append(saved(colours.convert("RGB"), "JPEG", progressive=True))
    for kind in ("PNG", "WEBP", "GIF"):
        made.append(
            saved(colours, kind, save_all=True, append_images=[colours.transpose(0), colours.transpose(1)])
        )
    return made


def mutant(data: bytes, chance: random.Random) -> bytes:
    mutated = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at = chance.randrange(len(mutated))
        if chance.random() < 0.4:
            at = min(at, chance.randrange(150))  # headers
        if chance.random() < 0.95:
            at = min(max(at, 8), len(mutated) - 1)  # but seldom what tells its kind
        long = chance.randrange(1, 9)
        match chance.randrange(8):
            case 0:
                del mutated[at : at + long]
            case 1:
                mutated[at:at] = chance.randbytes(long)
            case 2:
                mutated[at : at + long] = chance.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * long
            case 3:
                start = chance.randrange(len(mutated))
                mutated[at:at] = mutated[start : start + 8 * long]
            case 4:
                del mutated[at:]
            case _:
                mutated[at] = chance.randrange(256)
        if not mutated:
            return b""
    return mended(bytes(mutated)) if chance.random() < 0.7 else bytes(mutated)


def mended(data: bytes) -> bytes:
    """A PNG with the checksums that its chunks should have, so that damage goes deeper than those."""
    if data[:8] != PLAIN[:8]:
        return data
    mended, rest = data[:8], data[8:]
    while len(rest) >= 12:
        length = min(int.from_bytes(rest[:4], "big"), len(rest) - 12)
        mended, rest = mended + chunk(rest[4:8], rest[8 : 8 + length]), rest[12 + length :]
    return mended + rest


def survive(number: int, seed: int) -> tuple[int, float]:
    """Open so many damaged pictures; how many were pictures still, and the longest time one took."""
    chance, whole = random.Random(seed), seeds()
    opened_still, slowest = 0, 0.0
    for turn in range(number):
        data = mutant(whole[turn % len(whole)], chance)
        start = time.process_time()
        try:
            found = opened(data)
        except ImageError:
            pass
        except BaseException as error:
            error.add_note(f"mutant {turn} of seed {seed}: {data.hex()}")
            raise
        else:
            opened_still += 1
            assert found.image.mode == "RGB" and found.image.size == found.original.size
            assert found.original.mode in (("LA", "RGBA") if found.alpha else ("L", "RGB"))
        slowest = max(slowest, time.process_time() - start)
    return opened_still, slowest


def test_damaged_pictures_are_image_errors_or_pictures():
    number = 3_000
    opened_still, slowest = survive(number, seed=1)
    assert slowest < 1
    assert number / 20 < opened_still < number * 0.9  # the damage goes deep, and is damage


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 22))
def test_half_a_million_damaged_pictures_are_image_errors_or_pictures(seed):
    assert survive(25_000, seed)[1] < 1
