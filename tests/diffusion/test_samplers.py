"""Samplers against the truth: data whose denoiser and whose exact final x are known."""

import contextlib
import math
from pathlib import Path

import pytest
import torch

from sdcli import registry
from sdcli.diffusion import brownian
from sdcli.diffusion.ancestral import ancestral_step
from sdcli.diffusion.levels import Levels
from sdcli.diffusion.noise import Stream
from sdcli.errors import UsageError
from tests.diffusion.truth import (
    MEAN,
    SPREAD,
    UnitVectorPath,
    UnitVectors,
    gaussian,
    gaussian_end,
    mixture,
    mixture_end,
    with_mean,
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
    "heunpp2": 1,
    "gradient_estimation_cfg_pp": 1,
    "heun": 2,
    "dpm2": 2,
    "dpm2_a:eta=0": 2,
    "dpmpp_2m": 2,
    "dpmpp_2m_cfg_pp": 2,
    "dpmpp_2m_sde:eta=0": 2,
    "dpmpp_2m_sde:eta=0,heun=true": 2,
    "dpmpp_2s_a:eta=0": 2,
    "dpmpp_3m_sde:eta=0": 2,
    "dpmpp_2s_a_cfg_pp:eta=0": 2,
    "dpmpp_sde:eta=0": 2,
    "exp_heun_2_x0": 2,
    "exp_heun_2_x0:phi_2=false": 2,
    "exp_heun_2_x0_sde:eta=0": 2,
    "seeds_2:eta=0": 2,
    "seeds_2:eta=0,r=0.3,phi_2=true": 2,
    "res_multistep_cfg_pp": 2,
    "res_multistep": 2,
    "lms": 2,
    "ipndm": 2,
    "ipndm_v": 2,
    "plms": 2,
    "deis": 2,
    "deis:vp_time=true": 2,
    "gradient_estimation:gamma=1.5": 2,
    "restart:times=0": 2,
    "sa_solver:eta=0": 2,
    "sa_solver:eta=0,pece=true": 2,
    "seeds_3:eta=0": 3,
    "sa_solver:eta=0,order=3,corrector=3": 3,
    "unipc": 3,
    "unipc:order=2,bh2=true": 3,
    "dpm_fast": 3,
    "dpm_adaptive": 3,
}
"""Sampler -> the order that it claims; the stochastic ones without their noise."""
STOCHASTIC = {  # sampler -> steps after which the variance is within 2 % of the data's
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
    "sa_solver:pece=true": 100,
    "dpmpp_2s_a_cfg_pp": 200,
    "res_multistep_cfg_pp:eta=1": 1000,
    "exp_heun_2_x0_sde": 200,
    "seeds_2": 200,
    "seeds_3": 200,
}
WEAK_ORDER = {"res_multistep:eta=1": 1, "res_multistep_cfg_pp:eta=1": 1, "seeds_3": 2}
"""Sampler -> the order of its variance, where the noise costs some of the order without it."""
CONSISTENCY = ["lcm"]  # for networks that predict the end of the flow, not the mean
MULTISTEP_TO_ZERO = ["lms", "ipndm", "plms", "gradient_estimation"]
"""Samplers that use past slopes in the step to 0 too, so that its result is not the estimate."""
ALL = registry.names("samplers")


def no_noise(sigma: float, lower: float) -> torch.Tensor:
    raise AssertionError("a deterministic sampler drew noise")


def final_x(sampler: str, denoise, x, sigmas, noise=no_noise):
    *_, last = registry.find("samplers", sampler)(denoise, x, sigmas, noise)
    return last


def facts(sampler: str):
    """The facts in the docstring of a sampler."""
    return registry.describe("samplers", sampler.partition(":")[0]).facts


TRUTHS = {
    "gaussian": (gaussian(), gaussian_end, torch.linspace(-20, 20, 41, dtype=torch.float64)),
    "mixture": (mixture(), mixture_end, torch.linspace(-10, 10, 41, dtype=torch.float64)),
}
"""Data -> (its exact denoiser, its exact probability flow, starts)."""


def even_in_log(steps: int) -> list[float]:
    """Levels from 10 to 0.1 in equal ratios."""
    return [10 * (0.1 / 10) ** (i / steps) for i in range(steps + 1)]


def error(sampler: str, steps: int, data: str = "gaussian") -> float:
    """The largest error of a run in float64 from sigma 10 to 0.1, against the exact probability flow."""
    sigmas = even_in_log(steps)
    denoise, flow, x = TRUTHS[data]
    return float((final_x(sampler, denoise, x, sigmas) - flow(x, sigmas[0], sigmas[-1])).abs().max())


def measured_order(sampler: str, data: str) -> float:
    """The power of the step size with which the error falls, from one number of steps to twice as many."""
    steps = {"gaussian": 150, "mixture": 600}[data]  # past the first, irregular steps and well above rounding
    return math.log2(error(sampler, steps, data) / error(sampler, 2 * steps, data))


def test_every_sampler_has_an_order_that_the_tests_measure():
    assert {spec.partition(":")[0] for spec in [*ORDER, *STOCHASTIC, *CONSISTENCY]} == set(ALL)


@pytest.mark.parametrize("data", TRUTHS)
@pytest.mark.parametrize("sampler", ORDER)
def test_a_sampler_converges_with_the_order_it_claims(sampler, data):
    assert measured_order(sampler, data) >= {1: 0.97, 2: 1.95, 3: 2.9}[ORDER[sampler]]


def sampled(sampler: str, denoise, steps: int):
    """The final x of a run from pure noise: 102,400 samples."""
    shape = (1, 4, 160, 160)
    sigmas = registry.find("schedules", "karras")(steps, LEVELS)
    noise = Stream(1, shape)
    x = MEAN + noise(0, 0) * math.sqrt(SPREAD**2 + sigmas[0] ** 2)
    return final_x(sampler, denoise, x, sigmas, noise)


def exact_moments(sampler: str, sigmas) -> tuple[float, float]:
    """(mean, variance) that a run over Gaussian data ends with, computed without random numbers."""
    noise = UnitVectors()
    x = with_mean(noise() * math.sqrt(SPREAD**2 + sigmas[0] ** 2), MEAN)

    def denoise(x, sigma):
        share = SPREAD**2 / (SPREAD**2 + sigma**2)
        return with_mean(x * share, MEAN * (1 - share))

    def end_of_the_flow(x, sigma):
        share = math.sqrt(SPREAD**2 / (SPREAD**2 + sigma**2))
        return with_mean(x * share, MEAN * (1 - share))

    network = end_of_the_flow if sampler in CONSISTENCY else denoise
    with brownian_replaced_by(UnitVectorPath):
        mean, *coefficients = final_x(sampler, network, x, sigmas, noise).tolist()
    return mean, sum(coefficient**2 for coefficient in coefficients)


@contextlib.contextmanager
def brownian_replaced_by(path):
    """While inside, the samplers on Brownian paths use this kind of path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(brownian, "Brownian", path)
        yield


@pytest.mark.parametrize("sampler", [*STOCHASTIC, *CONSISTENCY])
def test_a_stochastic_sampler_ends_with_the_mean_and_variance_of_the_data(sampler):
    sigmas = registry.find("schedules", "karras")(STOCHASTIC.get(sampler, 4), LEVELS)
    mean, variance = exact_moments(sampler, sigmas)
    assert mean == pytest.approx(MEAN, abs=0.02 * SPREAD)
    assert variance == pytest.approx(SPREAD**2, rel=0.02)


def weak_order(sampler: str) -> float:
    """The power of the step size with which the error of the variance falls, from 200 to 400 steps, level 10 to 0.1."""
    errors = [abs(exact_moments(sampler, even_in_log(steps))[1] - SPREAD**2 - 0.1**2) for steps in (200, 400)]
    return math.log2(errors[0] / errors[1])


@pytest.mark.parametrize("sampler", STOCHASTIC)
def test_the_variance_converges_with_the_order_it_claims(sampler):
    claim = WEAK_ORDER.get(sampler) or int(facts(sampler)["order"])
    assert weak_order(sampler) >= {1: 0.97, 2: 1.95, 3: 2.9}[claim]


@pytest.mark.slow  # with random noise and the real Brownian path; the exact moments above are the quick test
@pytest.mark.parametrize("sampler", STOCHASTIC)
def test_the_samples_of_a_stochastic_sampler_have_the_mean_and_variance_of_the_data(sampler):
    samples = sampled(sampler, gaussian(), STOCHASTIC[sampler])
    assert float(samples.mean()) == pytest.approx(MEAN, abs=0.02 * SPREAD)
    assert float(samples.var()) == pytest.approx(SPREAD**2, rel=0.02)


@pytest.mark.parametrize("steps", [1, 2, 8])
@pytest.mark.parametrize("sampler", CONSISTENCY)
def test_the_samples_of_a_consistency_sampler_have_the_mean_and_variance_of_the_data(sampler, steps):
    samples = sampled(sampler, lambda x, sigma: gaussian_end(x, sigma, 0), steps)
    assert float(samples.mean()) == pytest.approx(MEAN, abs=0.02 * SPREAD)
    assert float(samples.var()) == pytest.approx(SPREAD**2, rel=0.02)


def check_evaluations(sampler: str, schedule: str, steps: int) -> None:
    """The evaluations of a run are those that `sd samplers` shows, or more where it shows `>=`."""
    evaluated = []

    def denoise(x, sigma):
        evaluated.append(sigma)
        return x * 0.5

    sigmas = registry.find("schedules", schedule)(steps, LEVELS)
    x = torch.ones(2)
    with brownian_replaced_by(lambda noise, top: noise):
        yields = sum(1 for _ in registry.find("samplers", sampler)(denoise, x, sigmas, lambda *_: x))
    claim = facts(sampler)["evaluations"]
    least = eval(claim.removeprefix(">="), {"steps": steps})
    assert yields == steps
    if claim.startswith(">=") and sampler != "restart:times=0":  # which does not go back, so takes the least
        assert len(evaluated) >= least
    else:
        assert len(evaluated) == least


@pytest.mark.parametrize("schedule", registry.names("schedules"))
@pytest.mark.parametrize("sampler", [*ALL, "restart:times=0"])
def test_a_sampler_takes_the_evaluations_that_it_claims(sampler, schedule):
    for steps in (1, 2, 3, 4, 5, 9, 27, 36, 37, 101, 999) if schedule == "karras" else (1, 2, 9):
        check_evaluations(sampler, schedule, steps)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [*ALL, "restart:times=0"])
def test_a_sampler_takes_the_evaluations_that_it_claims_for_every_number_of_steps(sampler):
    schedules = registry.names("schedules")  # in turn; test_levels has them all for every number of steps
    for steps in range(1, 1001):
        check_evaluations(sampler, schedules[steps % len(schedules)], steps)


@pytest.mark.parametrize("sampler", ALL)
def test_the_order_in_the_docstring_is_the_one_that_is_measured(sampler):
    specs = {sampler, *(f"{sampler}:{option}=0" for option in ("eta", "gamma", "times"))}
    measured = {str(order) for spec, order in ORDER.items() if spec in specs}
    claim = facts(sampler).get("order")
    if measured:
        assert {claim} == measured
    elif sampler in CONSISTENCY:
        assert claim is None
    else:  # measured by its variance alone, in test_the_variance_converges_with_the_order_it_claims
        assert sampler in STOCHASTIC
        assert claim is not None


@pytest.mark.parametrize("sampler", ALL)
def test_a_sampler_names_its_paper(sampler):
    assert facts(sampler)["paper"].startswith("https://")


@pytest.mark.parametrize("sampler", [name for name in ALL if name not in MULTISTEP_TO_ZERO])
def test_the_last_step_to_zero_returns_the_estimate(sampler):
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for sigmas in ([1.0, 0.0], [2.0, 1.0, 0.0]):
        estimates = []

        def denoise(x, sigma, estimates=estimates):
            estimates.append(mixture()(x, sigma))
            return estimates[-1]

        result = final_x(sampler, denoise, x, sigmas, Stream(0, tuple(x.shape)))
        assert torch.allclose(result, estimates[-1], atol=1e-6)


@pytest.mark.parametrize("sampler", ALL)
def test_the_same_seed_gives_the_same_bits_and_the_first_x_is_not_changed(sampler):
    sigmas = registry.find("schedules", "karras")(7, LEVELS)
    x = torch.randn(1, 4, 9, 9, generator=torch.Generator().manual_seed(3)) * sigmas[0]
    before = x.clone()
    runs = [final_x(sampler, mixture(), x, sigmas, Stream(5, tuple(x.shape))) for _ in range(2)]
    assert torch.equal(*runs)
    assert torch.equal(x, before)


@pytest.mark.parametrize("sampler", ALL)
def test_a_single_step_to_zero_returns_the_estimate(sampler):
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * 14
    result = final_x(sampler, mixture(), x, [14.0, 0.0], Stream(0, tuple(x.shape)))
    assert torch.allclose(result, mixture()(x, 14.0), atol=1e-5)


def test_eta_zero_makes_the_ancestral_sampler_plain_euler():
    sigmas = registry.find("schedules", "uniform")(9, LEVELS)
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * sigmas[0]
    plain = final_x("euler", mixture(), x, sigmas)
    assert torch.equal(final_x("euler_a:eta=0", mixture(), x, sigmas), plain)
    assert torch.equal(final_x("ddim", mixture(), x, sigmas), plain)


STEPS = [(14.6, 9.1), (2.0, 1.9), (0.03, 0.0), (5.0, 0.01)]


@pytest.mark.parametrize(("sigma", "lower"), STEPS)
def test_at_eta_1_the_fresh_noise_is_that_of_ddpms_posterior(sigma, lower):
    """Ho et al. 2020, equation 7: the posterior's variance in x of unit variance, with a = 1 / (1 + sigma^2)."""
    down, up = ancestral_step(sigma, lower, 1.0)
    a, a_lower = 1 / (1 + sigma**2), 1 / (1 + lower**2)
    posterior = (1 - a_lower) / (1 - a) * (1 - a / a_lower)
    assert up**2 == pytest.approx(posterior / a_lower)
    assert down**2 + up**2 == pytest.approx(lower**2)


@pytest.mark.parametrize(("sigma", "lower"), STEPS)
def test_eta_scales_the_fresh_noise_up_to_all_of_the_next_level(sigma, lower):
    full = ancestral_step(sigma, lower, 1.0)[1]
    for eta in (0.0, 0.5, 10.0):
        down, up = ancestral_step(sigma, lower, eta)
        assert up == pytest.approx(min(eta * full, lower))
        assert down**2 + up**2 == pytest.approx(lower**2)


def test_the_table_in_the_docs_names_them_all():
    table = Path(__file__).parents[2].joinpath("docs", "samplers.md").read_text(encoding="utf-8")
    for kind in ("samplers", "schedules", "guidance"):
        for name in registry.names(kind):
            assert f"| `{name}` | {registry.describe(kind, name).summary} |" in table
    for spec in [*ORDER, *STOCHASTIC]:
        assert f"| `{spec}` | " in table


OUT_OF_RANGE = [
    "lms:order=0",
    "ipndm:order=5",
    "er_sde:order=4",
    "unipc:order=0",
    "deis:order=-1",
    "sa_solver:order=0",
]
OUT_OF_RANGE += [
    "euler_a:eta=-1",
    "ddim:eta=nan",
    "dpmpp_2m_sde:eta=-1",
    "dpmpp_3m_sde:eta=inf",
    "dpmpp_sde:eta=-0.5",
]
OUT_OF_RANGE += ["tcd:gamma=2", "restart:times=-1", "dpm_adaptive:rtol=0"]


@pytest.mark.parametrize("spec", OUT_OF_RANGE)
def test_an_option_that_the_formula_cannot_take_is_a_usage_error(spec):
    with pytest.raises(UsageError, match="is outside"):
        final_x(spec, gaussian(), torch.ones(1, 1, 4, 4), [9.0, 3.0, 1.0, 0.0], Stream(0, (1, 1, 4, 4)))
