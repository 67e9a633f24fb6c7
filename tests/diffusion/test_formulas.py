"""Samplers that no other library has, against their papers' formulas, written out in numpy.

The papers on variance-preserving processes use y = x / sqrt(1 + sigma^2) = a * data + s * noise, and so do these tests.
"""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from sdcli import registry
from sdcli.diffusion.brownian import Brownian
from sdcli.diffusion.levels import Levels
from sdcli.diffusion.noise import Stream
from sdcli.diffusion.uncond import with_uncond
from tests.diffusion.truth import mixture

SHAPE = (1, 4, 8, 8)
SIGMAS = list(registry.find("schedules", "karras")(9, Levels.scaled_linear()))
X = torch.randn(SHAPE, generator=torch.Generator().manual_seed(2)).double().numpy() * SIGMAS[0]


def torch_noise():
    """The noise of a picture, in float64."""
    stream = Stream(3, SHAPE)
    return lambda sigma, lower: stream(sigma, lower).double()


def guided(x, sigma: float):
    """The guided estimate."""
    return mixture()(torch.from_numpy(x), sigma).numpy()


def uncond_estimate(x, sigma: float):
    """The estimate without the prompt."""
    return mixture(-2.0, 0.5, 0.7)(torch.from_numpy(x), sigma).numpy()


def final_x(sampler: str, sigmas=SIGMAS):
    """The end of a run of our sampler from X."""

    def denoise(x, sigma):
        estimate = torch.from_numpy(uncond_estimate(x.numpy(), sigma))
        return with_uncond(torch.from_numpy(guided(x.numpy(), sigma)), lambda: estimate)

    *_, x = registry.find("samplers", sampler)(denoise, torch.from_numpy(X), sigmas, torch_noise())
    return x.numpy()


def agrees(sampler: str, expected, sigmas=SIGMAS) -> bool:
    """True if a run of our sampler ends with the x of the formula, to rounding."""
    return np.allclose(final_x(sampler, sigmas), expected, rtol=1e-9, atol=1e-9)


def a(sigma: float) -> float:
    """The data's share of y."""
    return 1 / math.sqrt(1 + sigma**2)


def s(sigma: float) -> float:
    """The noise's share of y."""
    return sigma / math.sqrt(1 + sigma**2)


def noise_in(y, sigma: float, denoise=guided):
    """The noise that a denoiser finds in y."""
    return (y - a(sigma) * denoise(y / a(sigma), sigma)) / s(sigma)


def numpy_noise():
    """The same noise, for numpy."""
    noise = torch_noise()
    return lambda sigma, lower: noise(sigma, lower).numpy()


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_euler_with_cfg_pp_takes_the_noise_of_the_unguided_estimate(eta):
    draw, y = numpy_noise(), X * a(SIGMAS[0])
    for sigma, lower in pairwise(SIGMAS):
        estimate, uncond_noise = guided(y / a(sigma), sigma), noise_in(y, sigma, uncond_estimate)
        spread = s(lower) / s(sigma) * math.sqrt(1 - a(sigma) ** 2 / a(lower) ** 2) * eta
        y = a(lower) * estimate + math.sqrt(s(lower) ** 2 - spread**2) * (uncond_noise if lower else 0)
        if spread > 0:
            y = y + spread * draw(sigma, lower)
    assert agrees(f"euler_a_cfg_pp:eta={eta}", y)
    assert eta or agrees("euler_cfg_pp", y)


@pytest.mark.parametrize("sampler", ["dpmpp_2m_cfg_pp", "dpmpp_2m_cfg_pp:from_uncond=true"])
def test_dpmpp_2m_with_cfg_pp_is_its_algorithm(sampler):
    """The second-order term is the guided estimate less the last unguided one, as in the authors' code."""
    y, previous, previous_h = X * a(SIGMAS[0]), None, 1.0
    for sigma, lower in pairwise(SIGMAS):
        estimate, uncond = guided(y / a(sigma), sigma), uncond_estimate(y / a(sigma), sigma)
        if lower == 0:
            y = estimate
            break
        h = math.log(sigma) - math.log(lower)
        now = uncond if sampler.endswith("from_uncond=true") else estimate
        change = 0 if previous is None else (now - previous) * h / previous_h
        midpoint = uncond + change / 2
        y = s(lower) / s(sigma) * y - a(lower) * math.expm1(-h) * midpoint + a(lower) * (estimate - uncond)
        previous, previous_h = uncond, h
    assert agrees(sampler, y)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_dpmpp_2s_is_the_two_stage_method_down_to_the_level_below_the_fresh_noise(eta):
    draw, y = numpy_noise(), X * a(SIGMAS[0])
    for sigma, lower in pairwise(SIGMAS):
        x0 = guided(y / a(sigma), sigma)
        if lower == 0:
            y = x0
            break
        up = eta * lower * math.sqrt(1 - (lower / sigma) ** 2)
        down = math.sqrt(lower**2 - up**2)
        h = math.log(sigma / down)
        middle = sigma * math.exp(-h / 2)
        u = s(middle) / s(sigma) * y - a(middle) * math.expm1(-h / 2) * x0
        y = s(down) / s(sigma) * y - a(down) * math.expm1(-h) * guided(u / a(middle), middle)
        x = y / a(down) + (up * draw(sigma, lower) if up else 0)
        y = x * a(lower)
    assert agrees(f"dpmpp_2s_a:eta={eta}", y)


def test_dpmpp_sde_is_two_half_steps_along_one_path():
    path, x = Brownian(torch_noise(), SIGMAS[0]), X

    def step(x, x0, sigma, lower):
        """The exact step from sigma to lower for a constant estimate, its noise from the path."""
        up = lower * math.sqrt(1 - (lower / sigma) ** 2)
        kept = math.sqrt(lower**2 - up**2) / sigma
        return kept * x + (1 - kept) * x0 + up * path(sigma, lower).numpy()

    for sigma, lower in pairwise(SIGMAS):
        x0 = guided(x, sigma)
        if lower == 0:
            x = x0
            break
        middle = math.exp((math.log(sigma) + math.log(lower)) / 2)
        x = step(x, guided(step(x, x0, sigma, middle), middle), sigma, lower)
    assert agrees("dpmpp_sde", x)


def dpm_solver_3(y, sigma: float, lower: float):
    """DPM-Solver-3 with r1 = 1/3 and r2 = 2/3 (Lu et al. 2022, algorithm 2)."""
    h = math.log(sigma / lower)
    one, two = sigma * math.exp(-h / 3), sigma * math.exp(-2 * h / 3)
    e = noise_in(y, sigma)
    u1 = a(one) / a(sigma) * y - s(one) * math.expm1(h / 3) * e
    d1 = noise_in(u1, one) - e
    r = 2 / 3
    u2 = a(two) / a(sigma) * y - s(two) * math.expm1(r * h) * e
    u2 = u2 - s(two) * 2 * (math.expm1(r * h) / (r * h) - 1) * d1
    d2 = noise_in(u2, two) - e
    return (
        a(lower) / a(sigma) * y - s(lower) * math.expm1(h) * e - s(lower) / r * (math.expm1(h) / h - 1) * d2
    )


def test_three_even_steps_of_dpm_fast_are_one_of_dpm_solver_3():
    levels = [8.0 * (0.1 / 8.0) ** (i / 6) for i in range(7)]
    y = X * a(levels[0])
    for sigma, lower in [(levels[0], levels[3]), (levels[3], levels[6])]:
        y = dpm_solver_3(y, sigma, lower)
    assert agrees("dpm_fast", y / a(levels[6]), levels)


def test_a_short_step_of_dpm_adaptive_is_one_of_dpm_solver_3():
    levels = [8.0, 7.8, 7.6]
    y = X * a(levels[0])
    for sigma, lower in pairwise(levels):
        y = dpm_solver_3(y, sigma, lower)
    assert agrees("dpm_adaptive", y / a(levels[2]), levels)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_er_sde_is_its_taylor_series_with_integrals_of_the_noise_scale(order):
    def phi(sigma):
        return sigma * (np.exp(sigma**0.3) + 10)

    draw, x, slope, x0_before, slope_before = numpy_noise(), X, None, None, None
    for i, (sigma, lower) in enumerate(pairwise(SIGMAS)):
        x0 = guided(x, sigma)
        if lower == 0:
            x = x0
            break
        slope_before, slope = slope, None if i == 0 else (x0 - x0_before) / (sigma - SIGMAS[i - 1])
        r = phi(lower) / phi(sigma)
        at, weight = np.polynomial.legendre.leggauss(200)
        at, weight = (sigma + lower) / 2 + (sigma - lower) / 2 * at, weight * (sigma - lower) / 2
        x_next = r * x + (1 - r) * x0
        if order > 1 and i > 0:
            x_next += (lower - sigma + phi(lower) * (weight / phi(at)).sum()) * slope
        if order > 2 and i > 1:
            bend = (slope - slope_before) / ((sigma - SIGMAS[i - 2]) / 2)
            moment = (weight * (at - sigma) / phi(at)).sum()
            x_next += ((lower - sigma) ** 2 / 2 + phi(lower) * moment) * bend
        x = x_next + math.sqrt(lower**2 - sigma**2 * r**2) * draw(sigma, lower)
        x0_before = x0
    assert agrees(f"er_sde:order={order}", x)


def test_er_sde_without_noise_is_its_drift_alone():
    x = X
    for sigma, lower in pairwise(SIGMAS):
        r = lower * (math.exp(lower**0.3) + 10) / (sigma * (math.exp(sigma**0.3) + 10))
        x = guided(x, sigma) + (x - guided(x, sigma)) * r
    assert agrees("er_sde:order=1,s_noise=0", x)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_res_multistep_is_written_with_phi_functions(eta):
    def phi1(z):
        return math.expm1(z) / z

    def phi2(z):
        return (phi1(z) - 1) / z

    draw, x, before = numpy_noise(), X, None
    for i, (sigma, lower) in enumerate(pairwise(SIGMAS)):
        x0 = guided(x, sigma)
        if lower == 0:
            x = x0
            break
        up = eta * lower * math.sqrt(1 - (lower / sigma) ** 2)
        h = math.log(sigma) - math.log(math.sqrt(lower**2 - up**2))
        if before is None:
            x = math.exp(-h) * x + h * phi1(-h) * x0
        else:
            c2 = (math.log(sigma) - math.log(SIGMAS[i - 1])) / h  # behind, so below 0
            b2 = phi2(-h) / c2
            x = math.exp(-h) * x + h * ((phi1(-h) - b2) * x0 + b2 * before)
        x = x + (up * draw(sigma, lower) if up else 0)
        before = x0
    assert agrees(f"res_multistep:eta={eta}", x)


@pytest.mark.parametrize("gamma", [1.0, 1.5, 2.0])
def test_gradient_estimation_combines_two_estimates_of_the_noise(gamma):
    x, before = X, None
    for sigma, lower in pairwise(SIGMAS):
        epsilon = (x - guided(x, sigma)) / sigma
        both = epsilon if before is None else gamma * epsilon + (1 - gamma) * before
        x = x - (sigma - lower) * both
        before = epsilon
    assert agrees(f"gradient_estimation:gamma={gamma}", x)


def test_gradient_estimation_at_gamma_1_is_euler():
    assert agrees("gradient_estimation:gamma=1", final_x("euler"))


def heun(x, sigma: float, lower: float):
    """The trapezoid rule for dx/dsigma = (x - D) / sigma."""
    slope = (x - guided(x, sigma)) / sigma
    if lower == 0:
        return x - slope * sigma
    ahead = x + slope * (lower - sigma)
    return x + (lower - sigma) * (slope + (ahead - guided(ahead, lower)) / lower) / 2


def test_restart_goes_back_up_with_the_noise_that_lies_between():
    top, bottom = 3, 6
    draw, x = numpy_noise(), X
    for i, (sigma, lower) in enumerate(pairwise(SIGMAS)):
        x = heun(x, sigma, lower)
        for _ in range(2 if i + 1 == bottom else 0):
            x = x + math.sqrt(SIGMAS[top] ** 2 - SIGMAS[bottom] ** 2) * draw(0, 0)
            for k in range(top, bottom):
                x = heun(x, SIGMAS[k], SIGMAS[k + 1])
    assert agrees(f"restart:times=2,high={SIGMAS[top]},low={SIGMAS[bottom]}", x)


def test_restart_that_never_goes_back_is_heun():
    assert np.array_equal(final_x("restart:times=0"), final_x("heun"))
    assert np.array_equal(final_x("restart:high=0.2,low=0.2"), final_x("heun"))


@pytest.mark.parametrize("steps", [3, 12])
@pytest.mark.filterwarnings("ignore")
def test_ipndm_is_that_of_diffusers(steps):
    """Theirs takes its levels as the share of noise, and a network that predicts the velocity."""
    from diffusers import IPNDMScheduler

    levels = list(registry.find("schedules", "karras")(steps, Levels.scaled_linear()))
    theirs = IPNDMScheduler(trained_betas=[s(sigma) for sigma in levels])
    theirs.set_timesteps(steps)
    y = torch.from_numpy(X * a(levels[0]))
    for t, sigma in zip(theirs.timesteps, levels, strict=False):
        estimate = torch.from_numpy(guided((y / a(sigma)).numpy(), sigma))
        velocity = ((y - a(sigma) * estimate) / s(sigma) - s(sigma) * y) / a(sigma)
        y = theirs.step(velocity, t, y).prev_sample
    assert np.allclose(final_x("ipndm", levels), y.numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("guided", "plain"),
    [
        ("euler_cfg_pp", "euler"),
        ("euler_a_cfg_pp", "euler_a"),
        ("dpmpp_2m_cfg_pp", "dpmpp_2m"),
        ("dpmpp_2s_a_cfg_pp", "dpmpp_2s_a"),
        ("res_multistep_cfg_pp", "res_multistep"),
        ("gradient_estimation_cfg_pp:gamma=1", "euler"),
    ],
)
def test_cfg_pp_where_the_prompt_changes_nothing_is_its_plain_sampler(guided, plain):
    ends = []
    for sampler in (guided, plain):
        *_, x = registry.find("samplers", sampler)(mixture(), torch.from_numpy(X), SIGMAS, torch_noise())
        ends.append(x)
    assert torch.allclose(*ends, atol=1e-9)
