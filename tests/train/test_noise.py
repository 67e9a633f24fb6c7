"""`sd noise`: forward diffusion by its closed form, and the network's estimate at each level."""

import json

import pytest
import torch
from PIL import Image

from sdcli.models.load import load
from sdcli.pipeline import vae
from sdcli.pipeline.unet import predictor
from sdcli.train.noise import at_levels, filmstrip, latents_of, timesteps, told_of
from tests.pictures import photo


@pytest.mark.parametrize("name", ["test:sd1", "test:sd2-v", "test:sdxl"])
def test_the_latents_at_a_level_and_the_estimate_are_those_of_the_formulas(name):
    model = load(name)
    z = latents_of(model, photo())
    assert z.shape == (1, 4, 8, 8)
    found = list(at_levels(model, z, [0, 500, 999], "a cat", seed=3))
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(3))
    for level in found:
        sigma = model.levels.table[level.timestep]
        assert level.sigma == sigma
        torch.testing.assert_close(level.x, (z + sigma * noise) / (1 + sigma**2) ** 0.5)
        (estimate,) = predictor(model)(z + sigma * noise, sigma, [told_of(model, "a cat", z)])
        assert torch.equal(level.denoised, estimate)


def test_without_noise_the_picture_is_what_the_vae_makes_of_it():
    model = load("test:sd1")
    z = latents_of(model, photo())
    (level,) = at_levels(model, z, [0], "", seed=0)
    assert level.sigma == pytest.approx(0.02917, abs=1e-5)
    assert (level.x - z).abs().max() < 0.2
    assert vae.decode(model, level.x)[0].size == (64, 64)


def test_the_levels_go_from_the_first_to_the_last():
    levels = load("test:sd1").levels
    assert timesteps(levels, 4) == [0, 333, 666, 999]
    assert timesteps(levels, 1) == [499]


def test_the_filmstrip_has_a_column_for_each_level_and_two_rows():
    model = load("test:sd1")
    found = list(at_levels(model, latents_of(model, photo()), [0, 999], "", seed=0))
    one, two = (filmstrip(model, found[:count]) for count in (1, 2))
    assert two.width - one.width == 64 + 6 and two.height == one.height == 26 + 2 * (64 + 6)
    estimate = vae.decode(model, found[1].denoised)[0]
    assert two.crop((two.width - 70, 26 + 70, two.width - 6, 26 + 134)).tobytes() == estimate.tobytes()


def test_a_picture_becomes_a_filmstrip(sd, tmp_path):
    photo().save(tmp_path / "in.png")
    ran = sd("noise", "in.png", "--filmstrip", "--levels", 3, "-m", "test:sd1", "--json")
    assert ran.code == 0, ran.err
    report = json.loads(ran.lines[0])
    assert report["path"] == "in-noise.png" and report["timesteps"] == [0, 500, 999]
    assert report["sigmas"] == sorted(report["sigmas"])
    assert sd("noise", "in.png", "--timestep", 300, "-m", "test:sd1", "-o", "one.png").lines == ["one.png"]
    with Image.open(tmp_path / "one.png") as image:
        assert image.size == (64, 64)


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["in.png"], 2, "say what to show"),
        (["in.png", "--filmstrip", "--timestep", "3"], 2, "say what to show"),
        (["none.png", "--filmstrip"], 4, "there is no such file"),
        (["in.png", "--filmstrip", "-o", "x.jpg"], 2, "name it x.png"),
        (["in.png", "--filmstrip", "-m", "test:inpaint"], 3, "cannot be shown noise"),
    ],
)
def test_a_fault_is_one_line(sd, tmp_path, arguments, code, reason):
    photo().save(tmp_path / "in.png")
    ran = sd("noise", *arguments)
    assert (ran.code, len(ran.err.splitlines())) == (code, 1), ran.err
    assert reason in ran.err
