"""D12: a real single file can be tried offline: `sd models convert test:sd1 t.safetensors`, and every other test model.

Version 0.1 refused the test models, and the embedded one without a next step that works.
"""

import json
from pathlib import Path

import pytest
from PIL import Image
from safetensors import safe_open

from sdcli.checkpoints import toy

PICTURE = ("-i", "in.png")
COMMANDS = {
    "test:inpaint": ("inpaint", "a cat", *PICTURE, "--mask", "mask.png"),
    "test:depth": ("depth2img", "a cat", *PICTURE),
    "test:pix2pix": ("img2img", "a cat", *PICTURE),
    "test:x4": ("upscale", "in.png"),
    "test:refiner": ("img2img", "a cat", *PICTURE),
}
"""Test model -> how it is drawn with, if it needs a picture."""


@pytest.fixture
def picture_of(sd):
    """Draw with a model: picture_of(test model, model) -> the bytes of the picture."""
    Image.radial_gradient("L").resize((64, 64)).convert("RGB").save("in.png")
    Image.linear_gradient("L").resize((64, 64)).point(lambda v: 255 * (v > 127)).save("mask.png")

    def draw(test_model: str, model: str) -> bytes:
        command = COMMANDS.get(test_model, ("txt2img", "a cat"))
        ran = sd(*command, "-m", model, "--seed", 3, "-s", 2, "--no-metadata", "-o", "x.png")
        assert ran.code == 0, ran.err
        return Path(ran.lines[0]).read_bytes()

    return draw


FEW = {"test:sd1", "test:depth", "test:sdxl", "test:x4"}
"""The others have the networks of one of these, but for the channels of the U-Net or a text encoder less."""


@pytest.mark.parametrize(
    "model", [pytest.param(name, marks=[] if name in FEW else pytest.mark.slow) for name in toy.MODELS]
)
def test_d12_a_test_model_as_a_file_and_as_a_folder_draws_the_same_picture(sd, picture_of, model):
    for source, out in ((model, "a.safetensors"), (model, "folder"), ("a.safetensors", "b.safetensors")):
        ran = sd("models", "convert", source, out)
        assert (ran.code, ran.err, ran.lines) == (0, "", [out])
    expected = picture_of(model, model)
    for copy in ("a.safetensors", "folder", "b.safetensors"):
        assert picture_of(model, copy) == expected
    assert Path("a.safetensors").read_bytes() == Path("b.safetensors").read_bytes()


def test_d12_sd_info_recognises_the_file_and_its_keys_are_those_of_published_files(sd):
    assert sd("models", "convert", "test:sd1", "t.safetensors").code == 0
    facts = json.loads(sd("info", "t.safetensors", "--json").out)
    assert (facts["kind"], facts["size"]) == ("a sd1 model", "64x64")
    with safe_open("t.safetensors", "pt") as file:
        prefixes = {key.split(".")[0] for key in file.keys()}  # noqa: SIM118
    assert prefixes == {"model", "first_stage_model", "cond_stage_model"}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_d12_a_test_model_converts_to_half_precision(sd, dtype):
    assert sd("models", "convert", "test:sd1", "t.safetensors", "--dtype", dtype).code == 0
    assert sd("txt2img", "a cat", "-m", "t.safetensors", "-s", 1).code == 0


def test_d12_the_refusal_of_the_embedded_model_names_what_can_be_tried(sd):
    ran = sd("models", "convert", "tiny", "t.safetensors")
    assert (ran.code, len(ran.err.splitlines())) == (3, 1)
    assert "name a folder" in ran.err and "test:sd1" in ran.err


def test_d12_a_file_marked_as_an_unknown_test_model_is_refused(sd):
    from safetensors.torch import load_file, save_file

    assert sd("models", "convert", "test:sd1", "t.safetensors").code == 0
    save_file(load_file("t.safetensors"), "u.safetensors", {toy.MARK: "test:sd9"})
    ran = sd("info", "u.safetensors")
    assert (ran.code, len(ran.err.splitlines())) == (3, 1)
    assert "test:sd9" in ran.err
