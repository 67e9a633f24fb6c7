"""The canvas: which levels a request walks, and the noise it starts from."""

import math

import pytest
import torch

from sdcli.models.load import load
from sdcli.pipeline.start import start_of
from sdcli.request.inputs import SizedImages
from sdcli.request.request import Request

pytestmark = pytest.mark.usefixtures("shared_models")


@pytest.fixture
def drawn(toy):
    """The canvas of a request for the toy model: drawn(steps=3) -> Start."""
    model = load(str(toy), "cpu", "float32")

    def call(**asked):
        return start_of(
            model,
            model.with_defaults(Request(**{"seed": 5, "steps": 3, "model": str(toy), **asked})),
            SizedImages(),
        )

    return call


def test_levels_of_ones_own_take_the_place_of_the_schedule(drawn):
    start = drawn(steps=None, sigmas="9,4,0.5")
    assert start.sigmas == [9, 4, 0.5, 0]
    unit = drawn().x / math.sqrt(1 + drawn().sigmas[0] ** 2)
    assert torch.allclose(start.x, unit * math.sqrt(1 + 81))


def test_a_variation_goes_from_one_seed_to_the_other(drawn):
    one, two = drawn().x, drawn(seed=6).x
    assert torch.allclose(drawn(variation_seed=6, variation_strength=1.0).x, two, atol=1e-4)
    between = drawn(variation_seed=6, variation_strength=0.3).x
    assert float((between - one).norm()) < float((between - two).norm())
    assert float(between.std()) == pytest.approx(float(one.std()), rel=0.1)


def test_a_variation_leaves_the_noise_of_the_steps_alone(drawn):
    one, other = drawn(), drawn(variation_seed=6, variation_strength=0.3)
    assert torch.equal(one.noise(1, 0), other.noise(1, 0))


def test_the_noise_of_another_size_lies_in_the_middle(drawn):
    small, large = drawn(), drawn(width=96, height=80, seed_size="64x64")
    assert torch.equal(large.x[..., 1:9, 2:10], small.x)
    plain = drawn(width=96, height=80)
    assert torch.equal(large.x[..., 9:, :], plain.x[..., 9:, :])
    assert torch.equal(large.noise(1, 0), plain.noise(1, 0))


@pytest.mark.parametrize("rng", ["torch", "philox", "comfyui"])
def test_each_generator_draws_the_same_twice(drawn, rng):
    one, other = drawn(rng=rng), drawn(rng=rng)
    assert torch.equal(one.x, other.x)
    assert torch.equal(one.noise(1, 0), other.noise(1, 0))
    assert torch.equal(one.x, drawn().x) == (rng != "philox")
