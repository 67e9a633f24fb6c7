"""`--hires-by FILE`: an upscaler file enlarges the picture between the two passes."""

import json
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from sdcli.models.device import Placement
from sdcli.pipeline import hires, vae
from sdcli.request.inputs import SizedImages
from sdcli.request.job import job_of
from sdcli.request.request import Request
from tests import pictures, upscaler_files

DRAWN = ("txt2img", "a cat", "-m", "test:sd1", "-W", 64, "-H", 64, "--steps", 2, "-s", 1, "--hires", 1.5)


@pytest.fixture
def nearest(tmp_path):
    """An upscaler whose result is known: each pixel becomes a square of 4x4."""
    return upscaler_files.write(tmp_path / "nearest.safetensors", upscaler_files.nearest(4))


def texts_of(path):
    with Image.open(path) as image:
        return image.info


def test_the_decoded_picture_is_enlarged_by_the_file_and_resampled_to_the_size(nearest, monkeypatch):
    photo = pictures.photo(64, 80)
    monkeypatch.setattr(vae, "decode", lambda model, x: (photo, None))
    request = Request(
        "a cat", seed=1, steps=2, cfg=5, sampler="euler", schedule="uniform", guidance="cfg", clip_skip=1,
        emphasis="a1111", width=64, height=80, hires=1.5, hires_by=str(nearest),
    )  # fmt: skip
    model = SimpleNamespace(placement=Placement(torch.device("cpu"), torch.float32), factor=8)
    _, images, latents = hires.second_pass(model, job_of(request), SizedImages(), torch.zeros(1, 4, 10, 8))
    squares = photo.resize((256, 320), Image.Resampling.NEAREST)
    assert latents is None
    assert images.image.tobytes() == squares.resize((96, 120), Image.Resampling.LANCZOS).tobytes()


def test_a_picture_records_the_upscaler_and_is_made_again_to_the_byte(sd, nearest):
    sd(*DRAWN, "--hires-by", "nearest.safetensors", "-o", "one.png")
    texts = texts_of("one.png")
    recorded = json.loads(texts["sd"])
    assert recorded["request"]["hires_by"] == "nearest.safetensors"
    upscaler = recorded["upscalers"]["nearest"]
    assert (upscaler["file"], upscaler["scale"], len(upscaler["sha256"])) == ("nearest.safetensors", 4, 64)
    assert "Hires upscale: 1.5, Hires upscaler: nearest" in texts["parameters"]
    ran = sd("again", "one.png", "-o", "two.png", "-q")
    assert (ran.code, ran.err) == (0, "")
    with open("one.png", "rb") as one, open("two.png", "rb") as two:
        assert one.read() == two.read()
    sd("again", "one.png", "-o", "three.png", "--hires-by", "picture", "-q")
    with Image.open("one.png") as one, Image.open("three.png") as three:
        assert one.tobytes() != three.tobytes()


def test_again_says_that_the_upscaler_is_another(sd, nearest):
    sd(*DRAWN, "--hires-by", nearest, "-o", "one.png")
    upscaler_files.write(nearest, upscaler_files.compact())
    assert "made with another upscaler nearest" in sd("again", "one.png", "-q").err


def test_an_upscaler_is_found_by_its_name(sd, tmp_path, monkeypatch):
    monkeypatch.setenv("SDCLI_UPSCALERS", str(tmp_path / "mine"))
    path = upscaler_files.write(tmp_path / "mine" / "sharp.safetensors", upscaler_files.swinir())
    sd(*DRAWN, "--hires-by", "sharp", "-o", "one.png")
    assert json.loads(texts_of("one.png")["sd"])["request"]["hires_by"] == str(path)


@pytest.mark.parametrize("hires", [[], ["--hires", 2]])
@pytest.mark.parametrize(
    ("by", "code", "message"),
    [
        ("lattents", 2, "--hires-by lattents: is neither picture nor latents"),
        ("cut.safetensors", 3, "body.2.bias"),
    ],
)
def test_what_is_no_upscaler_is_refused_by_name_before_anything_is_drawn(
    sd, tmp_path, hires, by, code, message
):
    tensors = upscaler_files.compact()
    del tensors["body.2.bias"]
    upscaler_files.write(tmp_path / "cut.safetensors", tensors)
    ran = sd("txt2img", "a cat", *hires, "--hires-by", by)
    assert (ran.code, len(ran.err.splitlines())) == (code, 1)
    assert message in ran.err


def test_a_job_file_names_it_from_its_own_folder(tmp_path):
    from sdcli.request.jobfile.places import Place

    (tmp_path / "jobs").mkdir()
    place = Place(str(tmp_path / "jobs" / "jobs.toml"))
    assert place.value("hires_by", "x4.safetensors") == str(tmp_path / "jobs" / "x4.safetensors")
    assert [place.value("hires_by", each) for each in ("picture", "latents", "sharp")] == [
        "picture",
        "latents",
        "sharp",
    ]


def test_the_upscaler_of_a_picture_of_a1111_is_found_or_named(sd, tmp_path, monkeypatch):
    from sdcli.request.png import encode_png

    (tmp_path / "mine").mkdir()
    monkeypatch.setenv("SDCLI_UPSCALERS", str(tmp_path / "mine"))
    text = (
        "a cat\nSteps: 2, Sampler: Euler, CFG scale: 5, Seed: 1, Size: 64x64, Denoising strength: 0.5, "
        "Hires upscale: 1.5, Hires upscaler: R-ESRGAN 4x+"
    )
    (tmp_path / "in.png").write_bytes(encode_png(pictures.photo(96, 96), {"parameters": text}))
    assert (
        "not taken over from A1111: Hires upscaler: RealESRGAN_x4plus (needs"
        in sd("again", "in.png", "-m", "test:sd1").err
    )
    upscaler_files.write(tmp_path / "mine" / "RealESRGAN_x4plus.safetensors", upscaler_files.rrdb())
    ran = sd("again", "in.png", "-m", "test:sd1", "-o", "out.png", "-q")
    assert "RealESRGAN_x4plus" not in ran.err
    assert "RealESRGAN_x4plus" in json.loads(texts_of("out.png")["sd"])["upscalers"]
