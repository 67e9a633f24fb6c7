"""D18: JPEG and WebP output, with the metadata in EXIF, where readers of A1111's pictures and `sd again` find it."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sdcli.errors import UsageError
from sdcli.request.composite import composite
from sdcli.request.encode import Encoding
from sdcli.request.images import open_image
from sdcli.request.picture import Picture
from sdcli.request.png_metadata import read_png_metadata
from sdcli.request.request import Request
from tests.pictures import half_mask, photo
from tests.request.image_files import LINEAR_GREY, RED_IS_GREEN, encoded, random_picture

DRAW = ("txt2img", "a cat ☃", "-m", "test:sd1", "-s", 1, "--seed", 7)


@pytest.mark.parametrize(
    ("out", "format"),
    [
        ("x.jpg", "JPEG"),
        ("x.jpeg", "JPEG"),
        ("x.JPG", "JPEG"),
        ("x.webp", "WEBP"),
        ("x.png", "PNG"),
        ("x.PNG", "PNG"),
    ],
)
def test_d18_the_suffix_says_the_format(sd, out, format):
    ran = sd(*DRAW, "-o", out)
    assert (ran.code, ran.lines) == (0, [out]), ran.err
    with Image.open(out) as image:
        assert (image.format, image.size) == (format, (64, 64))


@pytest.mark.parametrize("out", ["x.tiff", "x.gif", "x.bmp", "x.avif", "x.heic", "{seed}.jxl", "x.jpg.txt"])
def test_d18_another_format_is_refused_by_name_before_anything_is_loaded(sd, out):
    ran = sd("txt2img", "a cat", "-m", "no-such-model", "-o", out)
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert ".png or .jpg or .jpeg or .webp; name it" in ran.err


def test_d18_a_folder_and_standard_output_get_the_format_that_is_asked_for(sd):
    assert sd(*DRAW, "--format", "webp", "-o", "new/").lines == ["new/a-cat-7.webp"]
    assert sd(*DRAW, "--format", "jpg").lines == ["a-cat-7.jpg"]
    assert sd(*DRAW, "--format", "jpeg", "-o", "-").out[:3] == b"\xff\xd8\xff"
    assert sd(*DRAW, "--format", "webp", "-o", "-").out[8:12] == b"WEBP"
    assert sd(*DRAW, "--format", "webp", "-o", "x.png").code == 2
    assert sd(*DRAW, "--format", "tiff").code == 2


def test_d18_a_webp_is_without_loss_unless_a_quality_is_given(sd):
    png, webp, lossy = (sd(*DRAW, "-o", out, *more).lines[0] for out, *more in
                        (("x.png",), ("x.webp",), ("y.webp", "--quality", 50)))  # fmt: skip
    pixels = [np.asarray(Image.open(path)).astype(int) for path in (png, webp, lossy)]
    assert (pixels[0] == pixels[1]).all()
    assert (pixels[0] != pixels[2]).any()
    assert Path(lossy).stat().st_size < Path(webp).stat().st_size


def test_d18_a_jpeg_is_close_and_smaller_at_lower_quality(sd):
    sd(*DRAW, "-o", "x.png")
    sizes = []
    for quality in (None, 50):
        path = sd(*DRAW, "-o", "x.jpg", *(("--quality", quality) if quality else ())).lines[0]
        difference = np.asarray(Image.open("x.png")).astype(int) - np.asarray(Image.open(path))
        sizes.append(Path(path).stat().st_size)
        assert abs(difference).mean() < (4 if quality is None else 20)
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize(("more", "words"), [(("-o", "x.png"), "--quality is for"), ((), "--quality is for")])
def test_d18_a_png_has_no_quality(sd, more, words):
    ran = sd(*DRAW, "--quality", 50, *more)
    assert ran.code == 2 and words in ran.err
    assert sd(*DRAW, "--quality", 0, "-o", "x.jpg").code == 2


@pytest.mark.parametrize("out", ["x.jpg", "x.webp"])
def test_d18_a_picture_is_told_and_made_again_from_its_exif(sd, out):
    first = Path(sd(*DRAW, "-n", "naïve, 猫", "-o", out).lines[0])
    told = json.loads(sd("info", out, "--json").out)
    assert (told["prompt"], told["negative"], told["seed"]) == ("a cat ☃", "naïve, 猫", 7)
    again = sd("again", out, "-o", f"again{first.suffix}")
    assert again.code == 0 and "differ" not in again.err
    assert Path(again.lines[0]).read_bytes() == first.read_bytes()


@pytest.mark.parametrize("out", ["x.jpg", "x.webp"])
def test_d18_readers_of_a1111_pictures_understand_the_exif(sd, out):
    sd_parsers = pytest.importorskip("sd_parsers")
    sd(*DRAW, "--sampler", "euler_a", "-o", out)
    found = sd_parsers.ParserManager().parse(Path(out))
    assert [prompt.value for prompt in found.prompts] == ["a cat ☃"]
    (sampler,) = found.samplers
    assert (sampler.name, sampler.parameters["steps"], str(sampler.parameters["seed"])) == (
        "Euler a",
        "1",
        "7",
    )


@pytest.mark.parametrize("out", ["x.jpg", "x.webp"])
def test_d18_without_metadata_there_is_none(sd, out):
    sd(*DRAW, "--no-metadata", "-o", out)
    assert read_png_metadata(out).texts == {}


def test_d18_the_step_pictures_and_the_filmstrip_stay_png(sd):
    ran = sd(*DRAW, "-o", "x.jpg", "--steps-dir", "steps", "--filmstrip", "film.png")
    assert ran.code == 0 and {path.suffix for path in Path("steps").iterdir()} == {".png"}
    assert sd(*DRAW, "--filmstrip", "film.jpg").code == 2


def test_d18_inpainting_into_a_jpeg_keeps_profile_and_says_what_it_cannot_keep(sd):
    picture = photo(mode="RGBA")
    picture.putalpha(128)
    Path("in.png").write_bytes(encoded(picture, "PNG", icc_profile=RED_IS_GREEN))
    half_mask().save("m.png")
    call = ("inpaint", "a cat", "-i", "in.png", "--mask", "m.png", "-m", "test:sd1", "-s", 1, "--json")
    ran = sd(*call, "-o", "x.jpg", "--background", "#204060")
    assert "a .jpg keeps no pixel exactly" in ran.err and "no transparency" in ran.err
    assert json.loads(ran.out)["kept"]["exact"] is False
    with Image.open("x.jpg") as image:
        assert image.mode == "RGB" and image.info["icc_profile"] == RED_IS_GREEN
        expected = np.asarray(photo())[:, :8].astype(int) * 128 // 255 + np.array([32, 64, 96]) * 127 // 255
        assert abs(np.asarray(image)[:, :8] - expected).mean() < 4
    ran = sd(*call, "-o", "x.webp")
    assert json.loads(ran.out)["kept"]["exact"] is True and "exactly" not in ran.err
    with Image.open("x.webp") as image:
        assert image.mode == "RGBA" and (np.asarray(image)[:, :8] == np.asarray(picture)[:, :8]).all()


def test_d18_a_picture_too_large_for_a_webp_is_refused_before_the_model_is_loaded(sd):
    Image.new("RGB", (16_400, 64)).save("in.png")
    mask = Image.new("L", (16_400, 64))
    mask.paste(255, (16, 16, 48, 48))
    mask.save("m.png")
    call = ("inpaint", "a cat", "-i", "in.png", "--mask", "m.png", "-m", "test:sd1", "-s", 1,
            "-W", 64, "-H", 64, "--only-masked")  # fmt: skip
    ran = sd(*call, "-o", "x.webp")
    assert ran.code == 2 and "16383 a side; write a .png" in ran.err
    assert sd(*call, "-o", "x.jpg").code == 0


def test_d18_prompts_too_long_for_the_exif_of_a_jpeg_are_refused_before_the_model_is_loaded(sd):
    ran = sd("txt2img", "猫" * 19_000, "-m", "test:sd1", "-s", 1, "-o", "x.jpg")
    assert ran.code == 2 and "too long for the metadata of a .jpg" in ran.err


MODES = st.sampled_from(["L", "LA", "RGB", "RGBA", "P"])
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=80)


@settings(max_examples=60, deadline=None)
@given(MODES, TEXT, TEXT, st.sampled_from(["jpg", "webp"]), st.sampled_from([None, 60]))
def test_d18_every_file_that_is_written_can_be_read(mode, prompt, negative, format, quality):
    opened = random_picture(mode)
    mask = half_mask(*opened.image.size)
    image = composite(opened, Image.new("RGB", opened.image.size, (200, 30, 90)), mask)
    request = Request(prompt, negative=negative, seed=7, image="x", mask="y", width=64, height=64)
    encoding = Encoding(format, quality)
    data = Picture(image, request, {"kept": {"pixels": 1, "exact": True}}, opened.icc).encoded(encoding)
    with Image.open(io.BytesIO(data)) as read:
        read.load()
    again = open_image(io.BytesIO(data), "x")
    assert again.notes == () or again.alpha is not None
    if encoding.is_lossless and mode in ("RGB", "RGBA"):
        assert again.original.tobytes() == image.tobytes()
    metadata = read_png_metadata(io.BytesIO(data), "x")
    assert metadata.request("x") == request
    assert metadata.facts("x")["kept"]["exact"] is encoding.is_lossless


def test_d18_a_grey_webp_with_a_profile_for_greys_is_in_srgb():
    grey = open_image(io.BytesIO(encoded(photo(mode="L"), "PNG", icc_profile=LINEAR_GREY)), "x")
    data = Picture(grey.original, Request(""), {}, grey.icc).encoded(Encoding("webp"))
    again = open_image(io.BytesIO(data), "x")
    assert again.icc is None and again.image.tobytes() == grey.image.tobytes()


def test_d18_an_unknown_quality_from_python_is_a_usage_error(tmp_path):
    from sdcli.request.picture import encoding_of

    for suffix, quality in ((".jpg", 101), (".png", 50)):
        with pytest.raises(UsageError):
            encoding_of(suffix, quality, Request(""))
