"""Samplers against the truth: data whose denoiser and whose exact end are known."""

import itertools
import math

import pytest
import torch

from sdcli import registry
from sdcli.diffusion.levels import Levels
from sdcli.diffusion.noise import Stream
from tests.diffusion.truth import MEAN, SPREAD, gaussian, gaussian_end, mixture

LEVELS = Levels.scaled_linear()
ORDER = {"euler": 1, "ddim": 1, "heun": 2, "dpmpp_2m": 2}
EVALUATIONS = {"heun": lambda steps: 2 * steps - 1}
ALL = registry.names("samplers")


def no_noise(sigma: float, lower: float) -> torch.Tensor:
    raise AssertionError("a deterministic sampler drew noise")


def end(sampler: str, denoise, x, sigmas, noise=no_noise):
    *_, last = registry.find("samplers", sampler)(denoise, x, sigmas, noise)
    return last


def error(sampler: str, steps: int) -> float:
    """The largest error of a run in float64 from sigma 10 to 0.1, against the exact flow."""
    sigmas = [10 * (0.1 / 10) ** (i / steps) for i in range(steps + 1)]
    x = torch.linspace(-20, 20, 41, dtype=torch.float64)
    got = end(sampler, gaussian(), x, sigmas)
    return float((got - gaussian_end(x, sigmas[0], sigmas[-1])).abs().max())


@pytest.mark.parametrize("sampler", ORDER)
def test_converges_with_the_order_it_claims(sampler):
    measured = math.log2(error(sampler, 200) / error(sampler, 400))
    assert measured >= ORDER[sampler] - (0.03 if ORDER[sampler] == 1 else 0.05)


@pytest.mark.parametrize("sampler", [name for name in ALL if name not in ORDER])
def test_a_stochastic_sampler_ends_with_the_mean_and_variance_of_the_data(sampler):
    shape = (1, 4, 160, 160)
    sigmas = registry.find("schedules", "karras")(600, LEVELS)
    noise = Stream(1, shape)
    x = MEAN + noise(0, 0) * math.sqrt(SPREAD**2 + sigmas[0] ** 2)
    got = end(sampler, gaussian(), x, sigmas, noise)
    assert float(got.mean()) == pytest.approx(MEAN, abs=0.02 * SPREAD)
    assert float(got.var()) == pytest.approx(SPREAD**2, rel=0.02)


def test_ddim_with_eta_one_ends_with_the_variance_of_the_data():
    shape = (1, 4, 160, 160)
    sigmas = registry.find("schedules", "karras")(600, LEVELS)
    noise = Stream(2, shape)
    x = MEAN + noise(0, 0) * math.sqrt(SPREAD**2 + sigmas[0] ** 2)
    assert float(end("ddim:eta=1", gaussian(), x, sigmas, noise).var()) == pytest.approx(SPREAD**2, rel=0.02)


@pytest.mark.parametrize("sampler", ALL)
@pytest.mark.parametrize("schedule", registry.names("schedules"))
def test_evaluations_are_as_documented_for_every_number_of_steps(sampler, schedule):
    expected = EVALUATIONS.get(sampler, lambda steps: steps)
    for steps in (1, 2, 3, 9, 27, 36, 37, 101, 999, 1000):
        calls = []

        def denoise(x, sigma, calls=calls):
            calls.append(sigma)
            return x * 0.5

        sigmas = registry.find("schedules", schedule)(steps, LEVELS)
        x = torch.ones(1, 1, 4, 4)
        yields = sum(1 for _ in registry.find("samplers", sampler)(denoise, x, sigmas, Stream(0, x.shape)))
        assert (len(calls), yields) == (expected(steps), steps)


@pytest.mark.parametrize("sampler", ALL)
def test_the_last_step_to_zero_returns_the_estimate(sampler):
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for sigmas in ([1.0, 0.0], [2.0, 1.0, 0.0]):
        seen = []

        def denoise(x, sigma, seen=seen):
            seen.append(mixture()(x, sigma))
            return seen[-1]

        got = end(sampler, denoise, x, sigmas, Stream(0, tuple(x.shape)))
        assert torch.allclose(got, seen[-1], atol=1e-6)


@pytest.mark.parametrize("sampler", ALL)
def test_the_same_seed_gives_the_same_bits_and_the_input_is_left_alone(sampler):
    sigmas = registry.find("schedules", "karras")(7, LEVELS)
    x = torch.randn(1, 4, 9, 9, generator=torch.Generator().manual_seed(3)) * sigmas[0]
    before = x.clone()
    runs = [end(sampler, mixture(), x, sigmas, Stream(5, tuple(x.shape))) for _ in range(2)]
    assert torch.equal(*runs)
    assert torch.equal(x, before)


def test_eta_zero_makes_the_ancestral_sampler_plain_euler():
    sigmas = registry.find("schedules", "uniform")(9, LEVELS)
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * sigmas[0]
    plain = end("euler", mixture(), x, sigmas)
    assert torch.equal(end("euler_a:eta=0", mixture(), x, sigmas), plain)
    assert torch.equal(end("ddim", mixture(), x, sigmas), plain)


def test_the_noise_of_a_step_splits_into_what_stays_and_what_is_drawn():
    from sdcli.diffusion.ancestral import split

    for (sigma, lower), eta in itertools.product(
        [(14.6, 9.1), (2.0, 1.9), (0.03, 0.0), (5.0, 0.01)], [0, 0.5, 1]
    ):
        down, up = split(sigma, lower, eta)
        assert down**2 + up**2 == pytest.approx(lower**2)
        assert 0 <= up <= lower
