"""C1–C4: masks that select nothing, have holes, another size, or labels for lightness.

Reports: diffusers#14322 and A1111#414 (a black mask changes nothing, and nobody says so), GIMP and ComfyUI's editor (a
hole cut into an opaque mask), onnx-web#373 and A1111#296 (a mask of another size), PAL4Inpaint#4 (labels 0 and 1).
"""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sdcli.request.request import Request
from tests.pictures import half_mask, photo
from tests.request.image_files import INK_IS_LIGHT, ONE_WAY, encoded, png

SIZE = (64, 64)
RIGHT = np.zeros((64, 64), bool)
RIGHT[:, 32:] = True


@pytest.fixture
def inpaint(sd):
    """inpaint("--mask", "m.png") repaints in.png (64x64) in one step; the working folder is empty otherwise."""
    photo().save("in.png")
    base = ("inpaint", "a cat", "-i", "in.png", "-m", "test:sd1", "-s", 1, "--seed", 3, "--mask-blur", 0)
    return lambda *arguments: sd(*base, *arguments)


def changed(ran) -> np.ndarray:
    """Where the result differs from in.png."""
    assert ran.code == 0, ran.err
    with Image.open(ran.lines[0]) as image:
        return (np.asarray(image.convert("RGB")) != np.asarray(photo())).any(-1)


def save_grey(path: str, values: np.ndarray) -> None:
    Image.fromarray(values.astype(np.uint8)).save(path)


# C1


@pytest.mark.parametrize(
    "more", [(), ("--only-masked",), ("--masked-content", "fill"), ("-W", 128, "-H", 128)]
)
@pytest.mark.parametrize("model", ["test:sd1", "test:inpaint"])
def test_c1_a_black_mask_is_refused(inpaint, more, model):
    save_grey("m.png", np.zeros(SIZE))
    ran = inpaint("--mask", "m.png", "-m", model, *more)
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (4, b"", 1)
    assert "m.png: the mask selects nothing: all of it is black; paint white" in ran.err


@pytest.mark.parametrize(
    ("value", "options", "reason"),
    [
        (255, ("--invert-mask",), "--invert-mask"),
        (None, ("--mask-grow", -40), "--mask-grow -40"),
        (None, ("--mask-grow", -40, "--invert-mask"), "--mask-grow -40"),
    ],
)
def test_c1_a_mask_that_an_option_leaves_nothing_of_is_refused_by_that_option(
    inpaint, value, options, reason
):
    mask = half_mask() if value is None else Image.new("L", SIZE, value)
    mask.save("m.png")
    ran = inpaint("--mask", "m.png", *options)
    assert ran.code == 4
    assert "the mask selects nothing" in ran.err and reason in ran.err


def test_c1_a_dot_that_the_blur_spreads_to_nothing_is_refused(inpaint):
    dot = np.zeros(SIZE)
    dot[30, 30] = 255
    save_grey("m.png", dot)
    ran = inpaint("--mask", "m.png", "--mask-blur", 60)
    assert ran.code == 4 and "--mask-blur 60" in ran.err


def test_c1_a_dot_that_vanishes_at_the_size_drawn_is_refused(inpaint):
    photo(2048, 2048).save("large.png")
    dot = np.zeros((2048, 2048))
    dot[30, 30] = 255
    save_grey("m.png", dot)
    ran = inpaint("-i", "large.png", "--mask", "m.png", "-W", 64, "-H", 64)
    assert ran.code == 4 and "selects nothing at 64x64" in ran.err


def test_c1_an_opaque_picture_has_no_alpha_mask(inpaint):
    photo(mode="RGBA").save("opaque.png")
    ran = inpaint("-i", "opaque.png", "--alpha-mask")
    assert ran.code == 4 and "none of the picture is transparent" in ran.err


def test_c1_a_black_mask_is_refused_before_the_model_is_loaded(inpaint, monkeypatch):
    import sdcli.engine

    monkeypatch.setattr(sdcli.engine, "generate", None)
    save_grey("m.png", np.zeros(SIZE))
    assert inpaint("--mask", "m.png").code == 4


def test_c1_a_mask_that_repaints_by_little_is_noted(inpaint):
    save_grey("m.png", RIGHT * 64)
    assert "m.png: the mask repaints by 25.1 % at most" in inpaint("--mask", "m.png").err


# C2


def with_hole(mode: str, colour: int | tuple[int, ...]) -> Image.Image:
    """An opaque picture of one colour whose right half is transparent."""
    image = Image.new(mode, SIZE, colour)
    image.putalpha(Image.fromarray(~RIGHT * np.uint8(255)))
    return image


def paletted_with_hole() -> Image.Image:
    image = Image.fromarray(RIGHT.astype(np.uint8)).convert("P")
    image.putpalette([0, 0, 0, 90, 40, 40])
    return image


HOLES = {
    "black RGBA": encoded(with_hole("RGBA", (0, 0, 0)), "PNG"),
    "white RGBA": encoded(with_hole("RGBA", (255, 255, 255)), "PNG"),
    "black LA": encoded(with_hole("LA", 0), "PNG"),
    "WebP": encoded(with_hole("RGBA", (0, 0, 0)), "WEBP", lossless=True, exact=True),
    "palette": encoded(paletted_with_hole(), "PNG", transparency=1),
    "GIF": encoded(paletted_with_hole(), "GIF", transparency=1),
    "colour key": encoded(Image.fromarray(RIGHT * np.uint8(9)), "PNG", transparency=9),
    "1 bit": png(SIZE, 1, 0, [b"\0\0\0\0\xff\xff\xff\xff"] * 64, (b"tRNS", b"\0\1")),
}


@pytest.mark.parametrize("name", HOLES)
def test_c2_the_hole_in_a_mask_is_repainted_and_noted(inpaint, name):
    Path("m.img").write_bytes(HOLES[name])
    ran = inpaint("--mask", "m.img")
    assert (changed(ran) & ~RIGHT).sum() == 0
    assert changed(ran)[RIGHT].mean() > 0.9
    assert "m.img: is transparent in places: these are repainted" in ran.err
    assert "over white" not in ran.err


def test_c2_the_hole_in_a_picture_as_comfyui_saves_it_is_repainted(inpaint):
    picture = photo(mode="RGBA")
    picture.putalpha(Image.fromarray(~RIGHT * np.uint8(255)))
    picture.save("m.png")
    ran = inpaint("--mask", "m.png")
    assert (changed(ran) & ~RIGHT).sum() == 0 and changed(ran)[RIGHT].mean() > 0.9


def test_c2_an_inverted_mask_keeps_the_hole(inpaint):
    with_hole("LA", 0).save("m.png")
    ran = inpaint("--mask", "m.png", "--invert-mask")
    assert (changed(ran) & RIGHT).sum() == 0 and changed(ran)[~RIGHT].mean() > 0.9


def grey16(values: np.ndarray) -> bytes:
    return png(SIZE, 16, 0, [row.astype(">u2").tobytes() for row in values])


WHITE_AT_THE_RIGHT = {
    "1": encoded(half_mask().convert("1"), "PNG"),
    "L": encoded(half_mask(), "PNG"),
    "LA": encoded(half_mask().convert("LA"), "PNG"),
    "RGB": encoded(half_mask().convert("RGB"), "PNG"),
    "RGBA": encoded(half_mask().convert("RGBA"), "PNG"),
    "P": encoded(half_mask().convert("P"), "PNG"),
    "16 bit": grey16(RIGHT * 65535),
    "BMP": encoded(half_mask(), "BMP"),
    "GIF": encoded(half_mask(), "GIF"),
    "JPEG": encoded(half_mask(), "JPEG", quality=100),
    "CMYK JPEG": encoded(half_mask().convert("RGB").convert("CMYK"), "JPEG", quality=100),
    "WebP": encoded(half_mask().convert("RGB"), "WEBP", lossless=True),
    "with a profile of one way": encoded(half_mask().convert("RGB"), "PNG", icc_profile=ONE_WAY),
    "with a profile that inverts": encoded(
        half_mask().convert("RGB").convert("CMYK"), "JPEG", quality=100, icc_profile=INK_IS_LIGHT
    ),
    "turned by EXIF": None,
}


@pytest.mark.parametrize("name", WHITE_AT_THE_RIGHT)
def test_c2_white_is_repainted_in_a_mask_of_any_mode(inpaint, name):
    data = WHITE_AT_THE_RIGHT[name]
    if data is None:
        exif = Image.Exif()
        exif[0x0112] = 6
        data = encoded(half_mask().transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    Path("m.img").write_bytes(data)
    ran = inpaint("--mask", "m.img")
    assert (changed(ran) & ~RIGHT).sum() == 0
    assert changed(ran)[RIGHT].mean() > 0.9
    assert "label" not in ran.err and "transparent" not in ran.err


# C3


@pytest.mark.parametrize("size", [(96, 160), (80, 48), (192, 320), (160, 95)])
@pytest.mark.parametrize("command", ["inpaint", "depth2img"])
def test_c3_a_mask_or_depth_map_of_another_size_is_refused_with_both_sizes(sd, size, command):
    photo(160, 96).save("in.png")
    Image.new("L", size, 255).save("m.png")
    option, model = ("--mask", "test:sd1") if command == "inpaint" else ("--depth", "test:depth")
    call = (command, "a cat", "-i", "in.png", option, "m.png", "-m", model, "-s", 1)
    ran = sd(*call)
    assert (ran.code, len(ran.err.splitlines())) == (4, 1)
    assert f"m.png: is {size[0]}x{size[1]}, but in.png is 160x96" in ran.err and "--fit" in ran.err
    assert sd(*call, "--fit", "error").code == 4
    assert sd(*call, "--fit", "crop").code == sd(*call, "--fit", "stretch").code == 0


def test_c3_a_mask_saved_without_the_turn_of_its_picture_is_refused(sd):
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(96, 64).save("in.jpg", exif=exif)  # shown as 64x96
    half_mask(96, 64).save("m.png")
    ran = sd("inpaint", "a cat", "-i", "in.jpg", "--mask", "m.png", "-m", "test:sd1", "-s", 1)
    assert ran.code == 4 and "m.png: is 96x64, but in.jpg is 64x96" in ran.err


# C4


def voc() -> Image.Image:
    """A label map as PASCAL VOC has them: a palette in which 0 is black and 15 a dark rose."""
    image = Image.fromarray(RIGHT * np.uint8(15)).convert("P")
    image.putpalette([0, 0, 0] + [128, 0, 0] * 14 + [192, 128, 128])
    return image


LABELS = {
    "0 and 1": encoded(Image.fromarray(RIGHT * np.uint8(1)), "PNG"),
    "0, 1 and 2": encoded(
        Image.fromarray(np.where(RIGHT, 1 + RIGHT.cumsum(0) % 2, 0).astype(np.uint8)), "PNG"
    ),
    "0 and 20": encoded(Image.fromarray(RIGHT * np.uint8(20)), "PNG"),
    "16 bit": grey16(RIGHT * 1),
    "16 bit, of many": grey16(RIGHT * 1001),
    "RGB": encoded(Image.fromarray(RIGHT * np.uint8(1)).convert("RGB"), "PNG"),
    "grey palette": encoded(Image.fromarray(RIGHT * np.uint8(1)).convert("P"), "PNG"),
    "palette of colours": encoded(voc(), "PNG"),
}


@pytest.mark.parametrize("name", LABELS)
def test_c4_a_label_map_repaints_all_that_has_a_label_and_says_so(inpaint, name):
    Path("m.png").write_bytes(LABELS[name])
    ran = inpaint("--mask", "m.png")
    assert (changed(ran) & ~RIGHT).sum() == 0
    assert changed(ran)[RIGHT].mean() > 0.9
    assert "m.png: is read as a label map: everything but 0 (black) is repainted" in ran.err
    half_mask().save("white.png")
    assert (changed(ran) == changed(inpaint("--mask", "white.png"))).all()


def test_c4_an_inverted_label_map_repaints_what_has_no_label(inpaint):
    Path("m.png").write_bytes(LABELS["0 and 1"])
    ran = inpaint("--mask", "m.png", "--invert-mask")
    assert (changed(ran) & RIGHT).sum() == 0 and changed(ran)[~RIGHT].mean() > 0.9


def test_c4_the_noise_of_a_black_jpeg_is_no_label(inpaint):
    noise = np.random.default_rng(0).integers(0, 3, SIZE)
    Path("m.jpg").write_bytes(encoded(Image.fromarray(noise.astype(np.uint8)), "JPEG", quality=100))
    ran = inpaint("--mask", "m.jpg")
    assert "label" not in ran.err and "the mask repaints by" in ran.err


def test_c3_a_picture_of_version_0_1_whose_mask_was_cropped_is_made_again(sd):
    photo(160, 96).save("in.png")
    half_mask(96, 160).save("m.png")
    request = Request(
        "a cat", image="in.png", mask="m.png", model="test:sd1", seed=3, steps=1, width=160, height=96
    )
    info = PngInfo()
    info.add_text("sd", json.dumps({"request": request.as_dict()}))  # as 0.1 wrote it: without a format
    photo(160, 96).save("made.png", pnginfo=info)
    assert sd("again", "made.png").code == 0
