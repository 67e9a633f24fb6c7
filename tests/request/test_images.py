"""Image files of every mode open with the right pixels; files that cannot be opened are an ImageError."""

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
from sdcli.request.images import open_image
from tests.request.image_files import (
    INK_IS_LIGHT,
    LINEAR_GREY,
    ONE_WAY,
    RED_IS_GREEN,
    chunk,
    encoded,
    icc,
    png,
)
from tests.speed import allowed


def open_bytes(data: bytes, **options) -> images.OpenedImage:
    return open_image(io.BytesIO(data), "x", **options)


def with_palette(image: Image.Image, *colours: int) -> Image.Image:
    image.putpalette(colours)
    return image


def row(mode: str, *pixels) -> Image.Image:
    """An image one pixel high."""
    image = Image.new(mode, (len(pixels), 1))
    image.putdata(pixels)
    return image


GREYS = [(0, 0, 0), (85, 85, 85), (170, 170, 170), (255, 255, 255)]
PALETTE = with_palette(row("P", 0, 1, 2), 255, 0, 0, 0, 255, 0, 0, 0, 255)
TABLE = {  # mode -> a file, its pixels over white, its alpha
    "1": (png((4, 1), 1, 0, [b"\x50"]), [GREYS[0], GREYS[3]] * 2, None),
    "1+tRNS": (png((2, 1), 1, 0, [b"\x40"], (b"tRNS", b"\0\0")), [GREYS[3], GREYS[3]], [0, 255]),
    "2": (png((4, 1), 2, 0, [b"\x1b"]), GREYS, None),
    "2+tRNS": (png((4, 1), 2, 0, [b"\x1b"], (b"tRNS", b"\0\1")), [GREYS[0], GREYS[3], *GREYS[2:]], [255, 0, 255, 255]),
    "4+tRNS": (png((2, 1), 4, 0, [b"\x5a"], (b"tRNS", b"\0\5")), [GREYS[3], GREYS[2]], [0, 255]),
    "L": (encoded(row("L", 0, 85, 170, 255), "PNG"), GREYS, None),
    "L+tRNS": (encoded(row("L", 85, 86), "PNG", transparency=85), [GREYS[3], (86,) * 3], [0, 255]),
    "L JPEG": (encoded(Image.new("L", (2, 1), 85), "JPEG", quality=100), [GREYS[1]] * 2, None),
    "LA": (encoded(row("LA", (0, 255), (0, 0), (0, 128)), "PNG"), [GREYS[0], GREYS[3], (127,) * 3], [255, 0, 128]),
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
    "P": (encoded(PALETTE, "PNG"), [(255, 0, 0), (0, 255, 0), (0, 0, 255)], None),
    "P+tRNS": (
        encoded(PALETTE, "PNG", transparency=b"\xff\0\x80"), [(255, 0, 0), GREYS[3], (127, 127, 255)], [255, 0, 128]
    ),
    "P+one transparent": (encoded(PALETTE, "PNG", transparency=1), [(255, 0, 0), GREYS[3], (0, 0, 255)], [255, 0, 255]),
    "P GIF": (encoded(PALETTE, "GIF", transparency=1), [(255, 0, 0), GREYS[3], (0, 0, 255)], [255, 0, 255]),
    "P BMP": (encoded(PALETTE, "BMP"), [(255, 0, 0), (0, 255, 0), (0, 0, 255)], None),
    "RGB": (encoded(row("RGB", (1, 2, 3)), "PNG"), [(1, 2, 3)], None),
    "RGB+tRNS": (
        encoded(row("RGB", (1, 2, 3), (1, 2, 4)), "PNG", transparency=(1, 2, 3)), [GREYS[3], (1, 2, 4)], [0, 255]
    ),
    "RGB BMP": (encoded(row("RGB", (1, 2, 3)), "BMP"), [(1, 2, 3)], None),
    "RGB JPEG": (encoded(Image.new("RGB", (1, 1), (254, 0, 0)), "JPEG", quality=100), [(254, 0, 0)], None),
    "RGB WebP": (encoded(row("RGB", (1, 2, 3)), "WEBP", lossless=True), [(1, 2, 3)], None),
    "RGBA": (
        encoded(row("RGBA", (255, 0, 0, 255), (255, 0, 0, 0), (255, 0, 0, 128)), "PNG"),
        [(255, 0, 0), GREYS[3], (255, 127, 127)], [255, 0, 128],
    ),
    "RGBA WebP": (
        encoded(row("RGBA", (255, 0, 0, 255), (9, 0, 0, 0)), "WEBP", lossless=True, exact=True),
        [(255, 0, 0), GREYS[3]], [255, 0],
    ),
    "RGBA opaque": (encoded(row("RGBA", (1, 2, 3, 255)), "PNG"), [(1, 2, 3)], [255]),
}  # fmt: skip


@pytest.mark.parametrize(("data", "pixels", "alpha"), TABLE.values(), ids=TABLE)
def test_an_image_of_any_mode_opens_with_the_right_pixels(data, pixels, alpha):
    opened = open_bytes(data)
    assert opened.image.mode == "RGB"
    assert np.array_equal(np.asarray(opened.image)[0], pixels)
    assert (opened.alpha and list(opened.alpha.tobytes())) == alpha
    assert opened.original.mode in (("LA", "RGBA") if alpha else ("L", "RGB"))
    assert opened.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("name", ["L", "LA", "RGB", "RGBA", "RGB WebP", "RGBA WebP"])
def test_the_original_has_the_mode_and_pixels_of_the_file(name):
    data = TABLE[name][0]
    with Image.open(io.BytesIO(data)) as image:
        assert open_bytes(data).original.mode == image.mode
        assert open_bytes(data).original.tobytes() == image.tobytes()


def test_the_original_keeps_the_colours_that_transparent_palette_entries_hide():
    assert open_bytes(TABLE["P+tRNS"][0]).original.getpixel((1, 0)) == (0, 255, 0, 0)


@pytest.mark.parametrize(
    ("name", "notes"),
    [
        ("RGB", ()), ("RGBA opaque", ()), ("16", ("16-bit reduced to 8",)), ("LA", ("transparency over white",)),
        ("16 RGBA", ("16-bit reduced to 8", "transparency over white")),
    ],
)  # fmt: skip
def test_notes_name_what_is_lost_on_opening(name, notes):
    assert open_bytes(TABLE[name][0]).notes == notes


def test_transparent_pixels_show_the_background_that_was_chosen():
    opened = open_bytes(TABLE["RGBA"][0], background=(0, 0, 64))
    assert [opened.image.getpixel((x, 0)) for x in range(3)] == [(255, 0, 0), (0, 0, 64), (128, 0, 32)]
    assert opened.notes == ("transparency over #000040",)


def ycck(c: int, m: int, y: int, k: int) -> bytes:
    """A CMYK JPEG as Photoshop writes it: inverted, with its first three channels as YCbCr."""
    first = [255 - v for v in Image.new("RGB", (1, 1), (c, m, y)).convert("YCbCr").getpixel((0, 0))]
    data = encoded(Image.new("CMYK", (8, 8), (*first, k)), "JPEG", quality=100)
    transform = data.index(b"Adobe") + 11  # 0 is CMYK, 2 is YCCK
    return data[:transform] + b"\2" + data[transform + 1 :]


@pytest.mark.parametrize(
    "ink", [(0, 0, 0, 0), (255, 0, 0, 0), (0, 128, 255, 0), (0, 0, 0, 255), (200, 100, 50, 25)]
)
def test_cmyk_jpegs_are_not_inverted(ink):
    expected = [round((255 - each) * (255 - ink[3]) / 255) for each in ink[:3]]
    for data in (encoded(Image.new("CMYK", (8, 8), ink), "JPEG", quality=100), ycck(*ink)):
        opened = open_bytes(data)
        assert np.abs(np.subtract(opened.image.getpixel((3, 3)), expected)).max() <= 3
        assert opened.notes == ("converted to sRGB",)
        assert opened.original is opened.image


UPRIGHT = row("RGB", (255, 0, 0), (0, 255, 0), (0, 0, 255)).resize((48, 16), Image.Resampling.NEAREST)
UPRIGHT.paste((255, 255, 255), (0, 8, 16, 16))
# EXIF orientation -> how an upright image was transposed when it was stored
STORED_BY = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", STORED_BY)
def test_an_image_is_turned_upright_as_its_exif_orientation_says(orientation, kind):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    transpose = STORED_BY[orientation]
    stored = UPRIGHT if transpose is None else UPRIGHT.transpose(transpose)
    options = {"PNG": {}, "JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
    opened = open_bytes(encoded(stored, kind, exif=exif, **options[kind]))
    assert opened.image.size == UPRIGHT.size
    assert np.abs(np.asarray(opened.image, int) - np.asarray(UPRIGHT)).max() <= (3 if kind == "JPEG" else 0)
    assert opened.original.size == UPRIGHT.size


def test_a_16_bit_image_is_turned_upright():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = png((2, 1), 16, 0, [struct.pack(">2H", 0, 65535)], (b"eXIf", exif.tobytes()[6:]))
    assert list(open_bytes(data).image.convert("L").tobytes()) == [0, 255]
    assert open_bytes(data).image.size == (1, 2)


def test_an_image_with_damaged_exif_is_not_turned():
    data = encoded(UPRIGHT, "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert open_bytes(data).image.tobytes() == UPRIGHT.tobytes()


def test_a_colour_profile_is_applied_to_the_image_and_kept_with_the_original():
    opened = open_bytes(encoded(row("RGB", (255, 0, 0)), "PNG", icc_profile=RED_IS_GREEN))
    assert opened.image.getpixel((0, 0)) == (0, 255, 0)
    assert opened.original.getpixel((0, 0)) == (255, 0, 0)
    assert (opened.icc, opened.notes) == (RED_IS_GREEN, ())


def test_a_grey_profile_is_applied_to_a_grey_image():
    opened = open_bytes(encoded(row("LA", (128, 255)), "PNG", icc_profile=LINEAR_GREY))
    assert opened.image.getpixel((0, 0)) == (188, 188, 188)  # half the light
    assert opened.original.getpixel((0, 0)) == (128, 255)
    assert opened.icc == LINEAR_GREY


def test_a_grey_image_may_have_an_rgb_profile():
    opened = open_bytes(encoded(Image.new("L", (8, 8), 77), "JPEG", quality=100, icc_profile=RED_IS_GREEN))
    assert (opened.image.getpixel((0, 0)), opened.original.mode) == ((77, 77, 77), "L")
    assert opened.icc == RED_IS_GREEN


def test_a_cmyk_image_is_converted_by_its_profile():
    for ink, light in ((255, 255), (0, 0)):
        opened = open_bytes(
            encoded(Image.new("CMYK", (8, 8), (0, 0, 0, ink)), "JPEG", quality=100, icc_profile=INK_IS_LIGHT)
        )
        assert opened.image.getpixel((0, 0)) == (light,) * 3
        assert (opened.icc, opened.notes) == (None, ("converted to sRGB",))


def test_the_original_is_converted_to_srgb_if_its_profile_has_no_way_back():
    opened = open_bytes(encoded(row("RGBA", (255, 0, 0, 7)), "PNG", icc_profile=ONE_WAY))
    assert opened.original.getpixel((0, 0)) == (136, 136, 136, 7)
    assert (opened.icc, opened.notes[0]) == (None, "converted to sRGB")


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
def test_a_damaged_profile_or_one_for_another_mode_is_noted_and_ignored(profile):
    opened = open_bytes(encoded(row("RGB", (255, 0, 0)), "PNG", icc_profile=profile))
    assert opened.image.getpixel((0, 0)) == (255, 0, 0)
    assert opened.notes == ("its colour profile is damaged or of another kind, and was ignored",)
    assert opened.icc is None


@pytest.mark.parametrize(("kind", "frames_noted"), [("PNG", "3"), ("WEBP", "3"), ("GIF", "many")])
def test_an_animation_opens_as_its_first_frame_and_a_note(kind, frames_noted):
    frames = [Image.new("RGB", (8, 8), (value, 0, 0)) for value in (250, 100, 0)]
    options = {"WEBP": {"lossless": True}}.get(kind, {})
    opened = open_bytes(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert opened.image.getpixel((0, 0)) == (250, 0, 0)
    assert opened.notes == (f"first of {frames_noted} frames",)


def test_a_jpeg_with_a_second_image_in_it_gets_no_note():
    frames = [Image.new("RGB", (8, 8), value) for value in ("red", "blue")]
    assert open_bytes(encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])).notes == ()


def test_a_pipe_gives_the_same_image_as_the_file(tmp_path):
    data = TABLE["RGB"][0]
    path = tmp_path / "a.png"
    path.write_bytes(data)
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    with open(reading, "rb") as pipe:
        piped = open_image(pipe, "standard input")
    assert piped.image.tobytes() == open_image(path).image.tobytes() == open_image(str(path)).image.tobytes()
    assert piped.sha256 == hashlib.sha256(data).hexdigest()
    assert piped.name == "standard input"


# Files that are not images.

PLAIN = encoded(Image.effect_noise((64, 64), 64).convert("RGB"), "PNG")
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
    "tiff": (encoded(Image.new("L", (1, 1)), "TIFF"), "a TIFF picture"),
    "psd": (b"8BPS\0\1", "a Photoshop file"),
    "pdf": (b"%PDF-1.7", "a PDF"),
    "zip": (b"PK\3\4\0\0", "a zip archive"),
    "safetensors": (struct.pack("<Q", 40) + b'{"a":{"dtype":"F32",', "models go to -m"),
    "zeros": (bytes(1000), "not a picture that is known"),
    "gzip": (gzip.compress(PLAIN), "is compressed with gzip"),
    "cut png": (PLAIN[:-500], f"cut-short PNG of {len(PLAIN) - 500} bytes"),
    "header alone": (PLAIN[:33], "cut-short PNG"),
    "signature alone": (PLAIN[:8], "cut-short PNG"),
    "no palette": (png((4, 1), 2, 3, [b"\x1b"]), "damaged"),  # one mutant of 450,000
    "cut jpeg": (encoded(UPRIGHT, "JPEG")[:-60], "cut-short JPEG"),
    "cut webp": (encoded(UPRIGHT, "WEBP")[:-60], "cut-short WEBP"),
    "cut gif": (encoded(UPRIGHT, "GIF")[:-60], "cut-short GIF"),
    "cut bmp": (encoded(UPRIGHT, "BMP")[:-60], "cut-short BMP"),
    "flipped": (PLAIN[:60] + bytes([PLAIN[60] ^ 1]) + PLAIN[61:], "damaged"),
}


@pytest.mark.parametrize(("data", "reason"), WRONG.values(), ids=WRONG)
def test_the_error_for_a_file_that_is_no_image_is_one_line_with_its_path_and_a_reason(tmp_path, data, reason):
    path = tmp_path / "a picture.png"
    path.write_bytes(data)
    with pytest.raises(ImageError) as error:
        open_image(path)
    line = str(error.value)
    assert line.startswith(f"{path}: ") and reason in line and "; " in line
    assert "\n" not in line and len(line) - len(str(path)) <= 110


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (".", "is a folder"),
        ("none.png", "there is no such file"),
        ("a\0b", "null"),
        ("x" * 300, "too long"),
        ("/dev/full/x", "not a directory"),
    ],
)
def test_the_error_for_a_path_that_cannot_be_opened_says_why(tmp_path, monkeypatch, path, reason):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageError, match=reason):
        open_image(path)


def test_the_error_for_a_file_without_read_permission_says_so(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(ImageError, match=r"may not be read; check its permissions"):
        open_image(tmp_path / "a.png")


def test_a_file_over_the_size_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_FILE_BYTES", 1 << 20)
    path = tmp_path / "a.png"
    path.write_bytes(PLAIN)
    os.truncate(path, (1 << 20) + 1)
    for source in (path, io.BytesIO(path.read_bytes())):
        with pytest.raises(ImageError, match="larger than 1 MiB"):
            open_image(source, "x")


def test_an_endless_stream_is_refused_by_its_first_bytes():
    with open("/dev/zero", "rb") as zeros, pytest.raises(ImageError, match="not a picture"):
        open_image(zeros, "x")


def test_an_image_that_does_not_fit_into_memory_is_an_image_error(monkeypatch):
    def refuse(*_, **__):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "convert", refuse)
    with pytest.raises(ImageError, match="x: does not fit into memory; make it smaller first"):
        open_bytes(PLAIN)


def jpeg_with_scans(scans: int) -> bytes:
    """A small file that holds a grey progressive JPEG of 8192x8192 pixels in so many scans over all of them."""

    def segment(marker: int, data: bytes) -> bytes:
        return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data

    head = segment(0xDB, b"\0" + b"\1" * 64) + segment(
        0xC2, struct.pack(">BHHB", 8, 8192, 8192, 1) + b"\1\x11\0"
    )
    codes = b"".join(
        segment(0xC4, kind + b"\1" + bytes(15) + code) for kind, code in ((b"\0", b"\0"), (b"\x10", b"\xe0"))
    )
    scan = segment(0xDA, b"\1\1\0\1\x3f\x10") + (b"\x7f" * 63)
    return (
        b"\xff\xd8"
        + head
        + codes
        + segment(0xDA, b"\1\1\0\0\0\0")
        + bytes(1 << 17)
        + scan * scans
        + b"\xff\xd9"
    )


def bombs() -> dict[str, bytes]:
    def header(width: int, height: int) -> bytes:
        return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))

    zeros = zlib.compress(bytes(100_000_000), 1)
    text = zlib.compress(bytes(20_000_000))
    jpeg, gif, bmp = (bytearray(encoded(Image.new("L", (8, 8)), kind)) for kind in ("JPEG", "GIF", "BMP"))
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
        "JPEG of 1000 scans": jpeg_with_scans(1000),
        "GIF": bytes(gif),
        "BMP": bytes(bmp),
        "WebP": b"RIFF" + struct.pack("<I", len(webp)) + webp,
    }  # fmt: skip


CHILD = """
import io, json, resource, sys, time
from PIL import Image, ImageCms
from sdcli.errors import ImageError
from sdcli.request.images import open_image
open_image(io.BytesIO(sys.stdin.buffer.read(int(sys.argv[1]))), "warm")
results = []
for size in sys.argv[2:]:
    data = sys.stdin.buffer.read(int(size))
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000, -1))
    start = time.process_time()
    try:
        open_image(io.BytesIO(data), "x")
        results.append(["opened", 0])
    except ImageError as error:
        results.append([str(error), time.process_time() - start])
print(json.dumps(results))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc and limits the address space")
def test_decompression_bombs_are_refused_in_little_time_and_memory():
    """A text or profile that would be too large is left aside, and the pixels are read."""
    files = bombs()
    sizes = [str(len(data)) for data in (PLAIN, *files.values())]
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD, *sizes],
        input=PLAIN + b"".join(files.values()), capture_output=True, check=True,
    )  # fmt: skip
    limit = allowed(0.2)
    for name, (message, seconds) in zip(files, json.loads(ran.stdout), strict=True):
        assert message.startswith("opened" if name.startswith("PNG with") else "x: "), (name, message)
        assert seconds < limit, (name, message, seconds)


# Damaged files: an ImageError, or an image.


def intact_files() -> list[bytes]:
    """Files of every format and mode, with EXIF and profiles where the format can hold them."""
    colours = Image.effect_mandelbrot((24, 18), (-2, -1.5, 1, 1.5), 50).convert("RGB")
    colours.putalpha(Image.radial_gradient("L").resize((24, 18)))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    files = [TABLE[name][0] for name in TABLE if name.startswith(("1", "2", "4", "16"))]
    for kind, modes in {
        "PNG": ["1", "L", "LA", "P", "RGB", "RGBA"],
        "JPEG": ["L", "RGB", "CMYK"],
        "WEBP": ["RGB", "RGBA"],
        "GIF": ["L", "P"],
        "BMP": ["1", "L", "P", "RGB"],
    }.items():
        options = {} if kind in ("GIF", "BMP") else {"exif": exif}
        for mode in modes:
            image = colours.convert("RGB").convert(mode) if mode in ("P", "CMYK") else colours.convert(mode)
            profile = {"L": LINEAR_GREY, "LA": LINEAR_GREY, "CMYK": INK_IS_LIGHT}.get(mode, RED_IS_GREEN)
            files.append(encoded(image, kind, **options, **({"icc_profile": profile} if options else {})))
    files.append(encoded(colours.convert("RGB"), "JPEG", progressive=True))
    for kind in ("PNG", "WEBP", "GIF"):
        files.append(
            encoded(colours, kind, save_all=True, append_images=[colours.transpose(0), colours.transpose(1)])
        )
    return files


def damaged(data: bytes, chance: random.Random) -> bytes:
    """The file with 1 to 16 random changes, most of them after its signature."""
    mutated = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at = chance.randrange(len(mutated))
        if chance.random() < 0.4:
            at = min(at, chance.randrange(150))  # headers
        if chance.random() < 0.95:
            at = min(max(at, 8), len(mutated) - 1)  # seldom the signature
        length = chance.randrange(1, 9)
        match chance.randrange(8):
            case 0:
                del mutated[at : at + length]
            case 1:
                mutated[at:at] = chance.randbytes(length)
            case 2:
                mutated[at : at + length] = chance.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * length
            case 3:
                start = chance.randrange(len(mutated))
                mutated[at:at] = mutated[start : start + 8 * length]
            case 4:
                del mutated[at:]
            case _:
                mutated[at] = chance.randrange(256)
        if not mutated:
            return b""
    return with_checksums(bytes(mutated)) if chance.random() < 0.7 else bytes(mutated)


def with_checksums(data: bytes) -> bytes:
    """A PNG with the right checksums for its chunks, so that the damage gets past them."""
    if data[:8] != PLAIN[:8]:
        return data
    png, rest = data[:8], data[8:]
    while len(rest) >= 12:
        length = min(int.from_bytes(rest[:4], "big"), len(rest) - 12)
        png, rest = png + chunk(rest[4:8], rest[8 : 8 + length]), rest[12 + length :]
    return png + rest


def open_damaged(number: int, seed: int) -> tuple[int, float]:
    """Open so many damaged files: (how many still opened, the longest time in seconds that one took)."""
    chance, files = random.Random(seed), intact_files()
    count, slowest = 0, 0.0
    for turn in range(number):
        data = damaged(files[turn % len(files)], chance)
        start = time.process_time()
        try:
            opened = open_bytes(data)
        except ImageError:
            pass
        except BaseException as error:
            error.add_note(f"file {turn} of seed {seed}: {data.hex()}")
            raise
        else:
            count += 1
            assert opened.image.mode == "RGB" and opened.image.size == opened.original.size
            assert opened.original.mode in (("LA", "RGBA") if opened.alpha else ("L", "RGB"))
        slowest = max(slowest, time.process_time() - start)
    return count, slowest


def test_a_damaged_file_opens_or_is_an_image_error():
    number = 3_000
    opened, slowest = open_damaged(number, seed=1)
    assert slowest < allowed(1)
    assert number / 20 < opened < number * 0.9  # the damage gets past the header, and it does harm


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 22))
def test_each_of_half_a_million_damaged_files_opens_or_is_an_image_error(seed):
    assert open_damaged(25_000, seed)[1] < 1
