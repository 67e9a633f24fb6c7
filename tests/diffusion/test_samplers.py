"""Samplers against the truth: data whose denoiser and whose exact end are known."""

import contextlib
import importlib
import itertools
import math
from pathlib import Path

import pytest
import torch

from sdcli import registry
from sdcli.diffusion.ancestral import ancestral_step
from sdcli.diffusion.levels import Levels
from sdcli.diffusion.noise import Stream
from sdcli.errors import UsageError
from tests.diffusion.truth import (
    MEAN,
    SPREAD,
    Spelled,
    SpelledPath,
    gaussian,
    gaussian_end,
    mixture,
    mixture_end,
    spelled,
)

LEVELS = Levels.scaled_linear()
ORDER = {
    "euler": 1,
    "euler_a:eta=0": 1,
    "ddim": 1,
    "tcd:gamma=0": 1,
    "gradient_estimation": 1,
    "euler_cfg_pp": 1,
    "euler_a_cfg_pp:eta=0": 1,
    "heun": 2,
    "dpm2": 2,
    "dpm2_a:eta=0": 2,
    "dpmpp_2m": 2,
    "dpmpp_2m_cfg_pp": 2,
    "dpmpp_2m_sde:eta=0": 2,
    "dpmpp_2m_sde:eta=0,heun=true": 2,
    "dpmpp_2s_a:eta=0": 2,
    "dpmpp_3m_sde:eta=0": 2,
    "dpmpp_sde:eta=0": 2,
    "res_multistep": 2,
    "lms": 2,
    "ipndm": 2,
    "plms": 2,
    "deis": 2,
    "gradient_estimation:gamma=1.5": 2,
    "restart:times=0": 2,
    "sa_solver:eta=0": 2,
    "sa_solver:eta=0,order=3,corrector=3": 3,
    "unipc": 3,
    "unipc:order=2,bh2=true": 3,
    "dpm_fast": 3,
    "dpm_adaptive": 3,
}
"""The order a sampler claims; for the stochastic ones, without their noise."""
STOCHASTIC = {  # how many steps the data's variance takes to within 2 %
    "euler_a": 600,
    "euler_a_cfg_pp": 600,
    "ddpm": 600,
    "ddim:eta=1": 600,
    "dpm2_a": 200,
    "dpmpp_2s_a": 200,
    "dpmpp_sde": 100,
    "dpmpp_2m_sde": 100,
    "dpmpp_2m_sde:heun=true": 100,
    "dpmpp_3m_sde": 100,
    "dpm_adaptive:eta=1": 100,
    "er_sde": 100,
    "res_multistep:eta=1": 1000,
    "restart": 100,
    "sa_solver": 100,
}
CONSISTENCY = ["lcm"]  # for networks that answer with the end of the flow in place of the mean
PATHS = [
    "dpm_adaptive",
    "dpmpp_2m_sde",
    "dpmpp_3m_sde",
    "dpmpp_sde",
    "sa_solver",
]  # these walk along Brownian
REMEMBERS = [
    "lms",
    "ipndm",
    "plms",
    "gradient_estimation",
]  # also in the step to 0, so that it is no estimate
ALL = registry.names("samplers")


def no_noise(sigma: float, lower: float) -> torch.Tensor:
    raise AssertionError("a deterministic sampler drew noise")


def end(sampler: str, denoise, x, sigmas, noise=no_noise):
    *_, last = registry.find("samplers", sampler)(denoise, x, sigmas, noise)
    return last


TRUTHS = {
    "gaussian": (gaussian(), gaussian_end, torch.linspace(-20, 20, 41, dtype=torch.float64)),
    "mixture": (mixture(), mixture_end, torch.linspace(-10, 10, 41, dtype=torch.float64)),
}


def error(sampler: str, steps: int, data: str = "gaussian") -> float:
    """The largest error of a run in float64 from sigma 10 to 0.1, against the exact flow."""
    sigmas = [10 * (0.1 / 10) ** (i / steps) for i in range(steps + 1)]
    denoise, truth, x = TRUTHS[data]
    return float((end(sampler, denoise, x, sigmas) - truth(x, sigmas[0], sigmas[-1])).abs().max())


def names(specs) -> set[str]:
    return {spec.partition(":")[0] for spec in specs}


def test_every_sampler_is_measured():
    assert names(ORDER) | names(STOCHASTIC) | names(CONSISTENCY) == set(ALL)


def order(sampler: str, data: str) -> float:
    """The measured order: by which power of the step the error falls, from one number of steps to twice as many."""
    steps = {"gaussian": 150, "mixture": 600}[
        data
    ]  # enough for each to be past its beginnings, above rounding
    return math.log2(error(sampler, steps, data) / error(sampler, 2 * steps, data))


@pytest.mark.parametrize("data", TRUTHS)
@pytest.mark.parametrize("sampler", ORDER)
def test_converges_with_the_order_it_claims(sampler, data):
    assert order(sampler, data) >= {1: 0.97, 2: 1.95, 3: 2.9}[ORDER[sampler]]


def drawn(sampler: str, denoise, steps: int):
    """The end of a run from pure noise, of 102,400 numbers."""
    shape = (1, 4, 160, 160)
    sigmas = registry.find("schedules", "karras")(steps, LEVELS)
    noise = Stream(1, shape)
    x = MEAN + noise(0, 0) * math.sqrt(SPREAD**2 + sigmas[0] ** 2)
    return end(sampler, denoise, x, sigmas, noise)


def exact(sampler: str, sigmas) -> tuple[float, float]:
    """The mean and the variance that a run over Gaussian data ends with, without any sampling."""
    noise = Spelled()
    x = spelled(noise() * math.sqrt(SPREAD**2 + sigmas[0] ** 2), MEAN)

    def denoise(x, sigma):
        share = SPREAD**2 / (SPREAD**2 + sigma**2)
        return spelled(x * share, MEAN * (1 - share))

    def consistent(x, sigma):
        share = math.sqrt(SPREAD**2 / (SPREAD**2 + sigma**2))
        return spelled(x * share, MEAN * (1 - share))

    with along(SpelledPath):
        mean, *rest = end(
            sampler, consistent if sampler in CONSISTENCY else denoise, x, sigmas, noise
        ).tolist()
    return mean, sum(each**2 for each in rest)


@contextlib.contextmanager
def along(path):
    """Every sampler that walks along a Brownian path walks along this one."""
    with pytest.MonkeyPatch.context() as patch:
        for name in PATHS:
            patch.setattr(importlib.import_module(f"sdcli.diffusion.samplers.{name}"), "Brownian", path)
        yield


@pytest.mark.parametrize("sampler", [*STOCHASTIC, *CONSISTENCY])
def test_a_stochastic_sampler_ends_with_the_mean_and_variance_of_the_data(sampler):
    mean, variance = exact(sampler, registry.find("schedules", "karras")(STOCHASTIC.get(sampler, 4), LEVELS))
    assert mean == pytest.approx(MEAN, abs=0.02 * SPREAD)
    assert variance == pytest.approx(SPREAD**2, rel=0.02)


def weak_order(sampler: str) -> float:
    """By which power of the step the error of the variance falls, from 200 steps to 400, from level 10 to 0.1."""
    errors = []
    for steps in (200, 400):
        sigmas = [10 * (0.1 / 10) ** (i / steps) for i in range(steps + 1)]
        errors.append(abs(exact(sampler, sigmas)[1] - SPREAD**2 - 0.1**2))
    return math.log2(errors[0] / errors[1])


@pytest.mark.parametrize("sampler", STOCHASTIC)
def test_the_variance_converges_with_the_order_it_claims(sampler):
    claim = (
        1
        if sampler == "res_multistep:eta=1"
        else int(registry.describe("samplers", sampler.partition(":")[0]).facts["order"])
    )
    assert weak_order(sampler) >= {1: 0.97, 2: 1.95, 3: 2.9}[claim]


@pytest.mark.slow  # the real noise and the real path; the exact numbers above are the quick word on it
@pytest.mark.parametrize("sampler", STOCHASTIC)
def test_so_it_does_with_the_noise_that_is_drawn(sampler):
    got = drawn(sampler, gaussian(), STOCHASTIC[sampler])
    assert float(got.mean()) == pytest.approx(MEAN, abs=0.02 * SPREAD)
    assert float(got.var()) == pytest.approx(SPREAD**2, rel=0.02)


@pytest.mark.parametrize("steps", [1, 2, 8])
@pytest.mark.parametrize("sampler", CONSISTENCY)
def test_a_consistency_sampler_ends_with_the_mean_and_variance_of_the_data(sampler, steps):
    got = drawn(sampler, lambda x, sigma: gaussian_end(x, sigma, 0), steps)
    assert float(got.mean()) == pytest.approx(MEAN, abs=0.02 * SPREAD)
    assert float(got.var()) == pytest.approx(SPREAD**2, rel=0.02)


def check_evaluations(sampler: str, schedule: str, steps: int) -> None:
    """The evaluations of a run are those that `sd samplers` tells."""
    calls = []

    def denoise(x, sigma):
        calls.append(sigma)
        return x * 0.5

    sigmas = registry.find("schedules", schedule)(steps, LEVELS)
    x = torch.ones(2)
    with along(lambda noise, top: noise):
        yields = sum(1 for _ in registry.find("samplers", sampler)(denoise, x, sigmas, lambda *_: x))
    told = registry.describe("samplers", sampler.partition(":")[0]).facts["evaluations"]
    least = eval(told.removeprefix(">="), {"steps": steps})
    assert yields == steps
    assert len(calls) >= least
    assert len(calls) == least or (told.startswith(">=") and sampler in ALL)


@pytest.mark.parametrize("schedule", registry.names("schedules"))
@pytest.mark.parametrize("sampler", [*ALL, "restart:times=0"])
def test_evaluations_are_as_told(sampler, schedule):
    for steps in (1, 2, 3, 4, 5, 9, 27, 36, 37, 101, 999) if schedule == "karras" else (1, 2, 9):
        check_evaluations(sampler, schedule, steps)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [*ALL, "restart:times=0"])
def test_evaluations_are_as_told_for_every_number_of_steps(sampler):
    schedules = registry.names(
        "schedules"
    )  # each in its turn; that all have as many levels is tested with them
    for steps in range(1, 1001):
        check_evaluations(sampler, schedules[steps % len(schedules)], steps)


def test_the_order_told_is_the_order_measured():
    still = {f"{name}:{option}=0": name for name in ALL for option in ("eta", "gamma", "times")}
    claims = {still.get(spec, spec): order for spec, order in ORDER.items()}
    for name in ALL:
        told = registry.describe("samplers", name).facts.get("order")
        if name in claims:
            assert told == str(claims[name]), name
        else:  # by its variance alone
            assert (told is None) == (name in CONSISTENCY)
            assert told is None or name in STOCHASTIC


def test_every_sampler_tells_its_paper():
    for name in ALL:
        assert registry.describe("samplers", name).facts["paper"].startswith("https://")


@pytest.mark.parametrize("sampler", [name for name in ALL if name not in REMEMBERS])
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


@pytest.mark.parametrize("sampler", ALL)
def test_one_step_to_zero_is_the_estimate(sampler):
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * 14
    got = end(sampler, mixture(), x, [14.0, 0.0], Stream(0, tuple(x.shape)))
    assert torch.allclose(got, mixture()(x, 14.0), atol=1e-5)


def test_eta_zero_makes_the_ancestral_sampler_plain_euler():
    sigmas = registry.find("schedules", "uniform")(9, LEVELS)
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * sigmas[0]
    plain = end("euler", mixture(), x, sigmas)
    assert torch.equal(end("euler_a:eta=0", mixture(), x, sigmas), plain)
    assert torch.equal(end("ddim", mixture(), x, sigmas), plain)


def test_the_noise_of_a_step_splits_into_what_stays_and_what_is_drawn():

    for (sigma, lower), eta in itertools.product(
        [(14.6, 9.1), (2.0, 1.9), (0.03, 0.0), (5.0, 0.01)], [0, 0.5, 1]
    ):
        down, up = ancestral_step(sigma, lower, eta)
        assert down**2 + up**2 == pytest.approx(lower**2)
        assert 0 <= up <= lower


def test_the_table_in_the_docs_names_them_all():
    table = Path(__file__).parents[2].joinpath("docs", "samplers.md").read_text(encoding="utf-8")
    for kind in ("samplers", "schedules", "guidance"):
        for name in registry.names(kind):
            assert f"| `{name}` | {registry.describe(kind, name).summary} |" in table
    for spec in [*ORDER, *STOCHASTIC]:
        assert f"| `{spec}` | " in table


BAD = [
    "lms:order=0",
    "ipndm:order=5",
    "er_sde:order=4",
    "unipc:order=0",
    "deis:order=-1",
    "sa_solver:order=0",
]
BAD += ["euler_a:eta=-1", "ddim:eta=nan", "dpmpp_2m_sde:eta=-1", "dpmpp_3m_sde:eta=inf", "dpmpp_sde:eta=-0.5"]
BAD += ["tcd:gamma=2", "restart:times=-1", "dpm_adaptive:rtol=0"]


@pytest.mark.parametrize("spec", BAD)
def test_a_knob_that_the_formula_cannot_take_is_a_usage_error(spec):
    with pytest.raises(UsageError, match="is outside"):
        end(spec, gaussian(), torch.ones(1, 1, 4, 4), [9.0, 3.0, 1.0, 0.0], Stream(0, (1, 1, 4, 4)))
