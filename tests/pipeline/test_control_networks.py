"""--control: what control networks add to a picture, at which steps, in which rows, and where."""

import numpy as np
import pytest
import torch
from PIL import Image

from sdcli.engine import generate
from sdcli.models.cache import ModelCache
from sdcli.request.request import Request
from tests import control_files

SEED, STEPS = 7, 4


@pytest.fixture(scope="module")
def models():
    return ModelCache()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("controls")
    for model in ("sd1", "sd2", "sdxl"):
        control_files.controlnet(folder, f"test:{model}", f"{model}.safetensors")
    for name, model, kind in (
        ("t2i", "test:sd1", "t2i"),
        ("light", "test:sd1", "t2i-light"),
        ("t2i-xl", "test:sdxl", "t2i"),
        ("union", "test:sdxl", "union"),
    ):
        control_files.write(folder / f"{name}.safetensors", control_files.weights(model, kind))
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / "hint.png")
    return folder


def drawn(models, *controls, model="test:sd1", **more):
    request = Request("a cat", model=model, seed=SEED, steps=STEPS, sampler="euler", control=controls, **more)
    return generate(request, models)


def pixels(result):
    return np.asarray(result.picture.image).astype(int)


def control(folder, name="sd1", **settings):
    text = f"{folder / name}.safetensors:image={folder / 'hint.png'}"
    return text + "".join(f":{key}={value}" for key, value in settings.items())


@pytest.mark.parametrize("name", ["sd1", "t2i", "light"])
def test_a_control_changes_the_picture_and_weight_0_changes_no_bit(models, folder, name):
    plain = drawn(models)
    assert not torch.equal(drawn(models, control(folder, name)).latents, plain.latents)
    assert torch.equal(drawn(models, control(folder, name, weight=0)).latents, plain.latents)


@pytest.mark.parametrize(
    ("model", "name", "more"),
    [
        ("test:sd2", "sd2", {}),
        ("test:sdxl", "sdxl", {}),
        ("test:sdxl", "t2i-xl", {}),
        ("test:sdxl", "union", {"type": "canny"}),
    ],
)
def test_nets_of_the_other_families_change_the_picture(models, folder, model, name, more):
    plain = drawn(models, model=model)
    assert not torch.equal(drawn(models, control(folder, name, **more), model=model).latents, plain.latents)


def test_two_controls_differ_from_each_alone(models, folder):
    one, other = control(folder, "sd1"), control(folder, "t2i")
    results = [drawn(models, *controls).latents for controls in ((one,), (other,), (one, other))]
    assert not any(torch.equal(results[2], each) for each in results[:2])


def test_a_control_with_half_the_weight_twice_is_that_control(models, folder):
    whole = drawn(models, control(folder)).latents
    halves = drawn(models, *[control(folder, weight=0.5)] * 2).latents
    assert torch.allclose(whole, halves, atol=1e-4)
