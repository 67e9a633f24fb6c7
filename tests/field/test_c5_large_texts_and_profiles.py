"""C5: a PNG with a compressed text (a workflow) or a colour profile over 1 MiB was refused as damaged, and inpainting a
JPEG with such a profile wrote a PNG that `sd` itself could not read (ComfyUI#3316, Pillow#8363, #2445).
"""

import io
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from sdcli.request.composite import composite
from sdcli.request.images import open_image
from sdcli.request.masks import open_mask
from sdcli.request.picture import Picture
from sdcli.request.png_metadata import read_png_metadata
from sdcli.request.request import Request
from tests.pictures import half_mask, photo
from tests.request.image_files import LINEAR_GREY, ONE_WAY, RED_IS_GREEN, SRGB, chunk, encoded

MIB = 1024 * 1024
WORKFLOW = json.dumps({"prompt": {"1": {"text": "x" * 2 * MIB}}})
NOISE = np.random.default_rng(0).integers(0, 256, 2 * MIB, np.uint8).tobytes()


def large_profile() -> bytes:
    """A valid sRGB profile of more than 1 MiB: what follows its tags is of no use."""
    size = len(SRGB) + len(NOISE)
    return size.to_bytes(4, "big") + SRGB[4:] + NOISE


def with_chunks(*extra: tuple[bytes, bytes], after_pixels: bool = False) -> bytes:
    """A PNG of `photo` with more chunks, behind its header or before its end."""
    png = encoded(photo(), "PNG")
    place = len(png) - 12 if after_pixels else 33
    return png[:place] + b"".join(chunk(*each) for each in extra) + png[place:]


ASIDE = {
    "zTXt": (b"zTXt", b"prompt\0\0" + zlib.compress(WORKFLOW.encode())),
    "iTXt": (b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(WORKFLOW.encode())),
    "uncompressed iTXt": (b"iTXt", b"workflow\0\0\0\0\0" + WORKFLOW.encode()),
    "a bomb": (b"zTXt", b"prompt\0\0" + zlib.compress(bytes(200 * MIB), 9)),
    "a damaged text": (b"zTXt", b"prompt\0\0" + b"no zlib"),
    "a text without a keyword": (b"tEXt", b""),
    "a damaged XMP": (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0no zlib"),
    "a large XMP": (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"<x>" + bytes(2 * MIB))),
    "a large EXIF text": (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(2 * MIB))),
    "a profile bomb": (b"iCCP", b"x\0\0" + zlib.compress(bytes(200 * MIB), 9)),
    "a large profile": (b"iCCP", b"x\0\0" + zlib.compress(large_profile())),
    "a damaged profile": (b"iCCP", b"x\0\0no zlib"),
    "an unknown chunk": (b"caBX", NOISE),
}


@pytest.mark.parametrize("after_pixels", [False, True])
@pytest.mark.parametrize("name", ASIDE)
def test_c5_the_pixels_of_a_png_are_read_whatever_its_texts_and_profile(name, after_pixels):
    data = with_chunks(ASIDE[name], after_pixels=after_pixels)
    assert open_image(io.BytesIO(data), "x").image.tobytes() == photo().tobytes()
    assert open_mask(io.BytesIO(data), "x").image.tobytes() == photo(mode="L").tobytes()
    assert read_png_metadata(io.BytesIO(data), "x").width == 64


@pytest.mark.parametrize("name", ["zTXt", "iTXt", "uncompressed iTXt"])
def test_c5_a_text_of_2_mib_is_read_as_metadata(sd, name):
    Path("x.png").write_bytes(with_chunks(ASIDE[name], (b"tEXt", b"after\0it"), after_pixels=True))
    texts = read_png_metadata("x.png").texts
    assert WORKFLOW in texts.values() and texts["after"] == "it"
    ran = sd("info", "x.png")
    assert ran.code == 0 and "xxxx" in ran.out.decode()


def test_c5_a_png_with_a_large_text_is_drawn_over_and_masks(sd):
    Path("in.png").write_bytes(with_chunks(ASIDE["zTXt"]))
    ran = sd("inpaint", "a cat", "-i", "in.png", "--mask", "in.png", "-m", "test:sd1", "-s", 1)
    assert ran.code == 0, ran.err


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_c5_inpainting_a_picture_with_a_large_profile_writes_a_png_that_all_can_read(sd, format):
    Path("in.img").write_bytes(encoded(photo(), format, icc_profile=large_profile()))
    half_mask().save("m.png")
    ran = sd("inpaint", "a cat", "-i", "in.img", "--mask", "m.png", "-m", "test:sd1", "-s", 1)
    assert ran.code == 0 and "in.img: converted to sRGB" in ran.err
    assert sd("info", ran.lines[0]).code == 0
    assert sd("img2img", "a cat", "-i", ran.lines[0], "-m", "test:sd1", "-s", 1).code == 0
    read_with_pillow(Path(ran.lines[0]).read_bytes())


def read_with_pillow(png: bytes) -> Image.Image:
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        return image


MODES = {
    "L": "L",
    "LA": "LA",
    "RGB": "RGB",
    "RGBA": "RGBA",
    "P": "P",
    "1": "1",
    "CMYK": "CMYK",
    "I;16": "I;16",
}
PROFILES = st.sampled_from(
    [None, SRGB, RED_IS_GREEN, LINEAR_GREY, ONE_WAY, large_profile(), b"", b"no profile", NOISE]
)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=80)


@st.composite
def files(draw) -> bytes:
    """An image file of a mode, size, format and profile."""
    size = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    mode = draw(st.sampled_from(list(MODES)))
    format = "TIFF" if mode == "CMYK" else draw(st.sampled_from(["PNG", "PNG", "JPEG", "WEBP"]))
    image = Image.effect_noise(size, 100)
    if mode == "I;16":
        image, format = Image.fromarray(np.asarray(image).astype(np.uint16) * 257), "PNG"
    elif mode == "CMYK":
        image, format = image.convert("RGB").convert("CMYK"), "JPEG"
    elif format == "PNG":
        image = image.convert(mode)
    else:
        image = image.convert("RGB")
    profile = draw(PROFILES)
    return encoded(image, format, **({"icc_profile": profile} if profile else {}))


@settings(max_examples=150, deadline=None)
@given(files(), TEXT, TEXT, st.integers(0, 255))
def test_c5_every_picture_that_is_written_can_be_read(file, prompt, negative, grey):
    opened = open_image(io.BytesIO(file), "x")
    mask = Image.new("L", opened.image.size, grey)
    image = composite(opened, Image.new("RGB", opened.image.size, (200, 30, 90)), mask)
    request = Request(prompt, negative=negative, seed=7, image="x", mask="y", width=64, height=64)
    png = Picture(image, request, {}, opened.icc).png()
    assert read_with_pillow(png).size == image.size
    again = open_image(io.BytesIO(png), "x")
    assert again.original.tobytes() == image.tobytes() and again.original.mode == image.mode
    assert open_mask(io.BytesIO(png), "x").image.size == image.size
    assert read_png_metadata(io.BytesIO(png), "x").request("x") == request
