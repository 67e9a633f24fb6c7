"""`--like a1111` visits the levels that A1111 visits, with its own DDIM, PLMS, UniPC, Restart and schedules.

A1111's modules run live on the same weights: 0.1.0 took one step too many with DDIM and PLMS, was 2.8 % off with UniPC
and 8 standard deviations off with DDIM CFG++, and had other levels for Beta, KL Optimal, Align Your Steps and Restart.
The references here are A1111's rules, written out with numpy and scipy.
"""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sdcli import registry
from sdcli.diffusion.conventions import CONVENTIONS
from sdcli.diffusion.levels import Levels
from sdcli.engine import generate
from sdcli.registry import Spec
from sdcli.request.request import Request
from tests.diffusion.truth import mixture

A1111 = CONVENTIONS["a1111"]
LEVELS = Levels.scaled_linear()
TABLE = np.array(LEVELS.table)
COUNTS = st.integers(2, 120)
LATENTS, NOISE = torch.full((1, 4, 2, 2), 3.0), torch.full((1, 4, 2, 2), -2.0)


def timesteps(steps: int) -> list[int]:
    """clip(range(0, 1000, 1000 // steps) + 1, 0, 999), rising."""
    return np.clip(np.arange(0, 1000, 1000 // steps) + 1, 0, 999).tolist()


def run(sampler: str, steps: int, schedule: str = "uniform", strength: float | None = None) -> list[float]:
    sigmas, first = A1111.levels(Spec(schedule), steps, LEVELS, sampler, strength)
    return sigmas[first:]


@given(COUNTS)
@pytest.mark.parametrize("sampler", ["ddim", "plms", "euler_cfg_pp"])
def test_like_a1111_ddim_ends_at_timestep_1_without_evaluating_it(sampler, steps):
    visited = run(sampler, steps)
    assert visited == [TABLE[t] for t in reversed(timesteps(steps))]
    if 1000 % steps == 0:
        assert len(visited) - 1 == steps - 1  # evaluations: 7 for 8 steps
    assert visited[-1] == TABLE[1]


@pytest.mark.parametrize("schedule", registry.names("schedules"))
def test_like_a1111_ddim_knows_no_schedule(schedule):
    assert run("ddim", 8, schedule) == run("ddim", 8)
    assert run("unipc", 8, schedule) == run("unipc", 8)


def test_like_a1111_ddim_is_the_recurrence_of_its_code():
    """From alphas_cumprod at timesteps[k] to that at timesteps[k - 1], in x of unit variance."""
    alphas, steps = 1 / (1 + TABLE**2), timesteps(8)
    unit = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    x = unit
    for t, lower in zip(reversed(steps[1:]), reversed(steps[:-1]), strict=True):
        a, a_lower = alphas[t], alphas[lower]
        x0 = mixture()(x / math.sqrt(a), TABLE[t])
        noise = (x - math.sqrt(a) * x0) / math.sqrt(1 - a)
        x = math.sqrt(a_lower) * x0 + math.sqrt(1 - a_lower) * noise
    sigmas = run("ddim", 8)
    start = unit * A1111.initial_scale(sigmas[0], LEVELS, "ddim", "uniform")
    *_, ours = A1111.sampler(Spec("ddim"), "uniform", 8, LEVELS)(mixture(), start, sigmas, lambda *_: unit)
    assert torch.allclose(ours / A1111.final_scale(sigmas[-1], "ddim"), x, atol=1e-9)


def test_like_a1111_ddim_cfg_pp_takes_a_12th_of_the_scale():
    assert A1111.cfg(7, "euler_cfg_pp") == pytest.approx(0.56)
    for sampler in set(registry.names("samplers")) - {"euler_cfg_pp"}:
        assert A1111.cfg(7, sampler) == 7
    for tool in set(CONVENTIONS) - {"a1111"}:
        assert CONVENTIONS[tool].cfg(7, "euler_cfg_pp") == 7


def test_like_a1111_ddim_cfg_pp_at_12_5_is_the_prompt_alone_but_for_the_noise(toy):
    request = Request("a cat", negative="a dog", model=str(toy), seed=1, steps=4, width=64, height=64)
    request = request.replace(sampler="euler_cfg_pp", like="a1111", cfg=12.5)
    halved = generate(request.replace(cfg=6.25)).latents
    assert not torch.allclose(generate(request).latents, halved, atol=1e-3)
    assert torch.isfinite(halved).all()


@given(COUNTS)
def test_like_a1111_unipc_has_fractional_timesteps_down_to_the_lowest_level(steps):
    """t from 1 to 1 / 1000 in even steps, as many as DDIM has timesteps; log alpha is linear between 1 / 1000s."""
    count = len(timesteps(steps))
    continuous = np.linspace(1, 1 / 1000, count + 1)
    log_alphas = np.interp(continuous, np.arange(1, 1001) / 1000, -0.5 * np.log1p(TABLE**2))
    expected = np.sqrt(np.exp(-2 * log_alphas) - 1)
    assert run("unipc", steps) == pytest.approx(expected.tolist(), rel=1e-9)
    given_timesteps = [A1111.timestep("unipc", "uniform")(LEVELS.t(sigma)) for sigma in run("unipc", steps)]
    assert given_timesteps == pytest.approx(((continuous - 1 / 1000) * 1000).tolist(), abs=5e-3)


def test_like_a1111_unipc_of_8_steps_has_the_known_timesteps():
    t = [LEVELS.t(sigma) for sigma in run("unipc", 8)]
    assert t[:2] == pytest.approx([999, 874.125], abs=2e-3)
    assert run("unipc", 8)[-1] == pytest.approx(LEVELS.sigma_min)


def test_like_a1111_unipc_lowers_its_order_at_the_end():
    """uni_pc_lower_order_final is on; test_like_diffusers_schedulers compares that with diffusers."""
    sigmas, x = run("unipc", 8), torch.linspace(-9, 9, 5, dtype=torch.float64)
    ends = []
    for sampler in (
        A1111.sampler(Spec("unipc"), "uniform", 8, LEVELS),
        registry.find("samplers", "unipc:lower_order_final=true"),
    ):
        *_, end = sampler(mixture(), x, sigmas, lambda *_: x)
        ends.append(end)
    assert torch.equal(*ends)


@given(COUNTS, st.integers(0, 100))
@pytest.mark.parametrize("sampler", ["ddim", "plms", "unipc"])
def test_like_a1111_img2img_noises_at_one_timestep_and_walks_those_below(sampler, steps, percent):
    taken = int(min(percent / 100, 0.999) * steps)
    below = timesteps(steps)[:taken]
    visited = run(sampler, steps, strength=percent / 100)
    if taken == 0:
        assert visited == [TABLE[1]]
    elif sampler == "unipc":
        assert LEVELS.t(visited[0]) == pytest.approx(below[-1], abs=1e-3)
        assert len(visited) == taken + 1
        assert visited[-1] == pytest.approx(LEVELS.sigma_min)
    else:
        assert visited == [TABLE[t] for t in reversed(below)]
    sigmas, first = A1111.levels(Spec("uniform"), steps, LEVELS, sampler, percent / 100)
    noised = TABLE[timesteps(steps)[taken]]
    x = A1111.noised(LATENTS, NOISE, sigmas, first, LEVELS, sampler)
    unit_variance = (LATENTS + NOISE * noised) / math.sqrt(1 + noised**2)
    assert torch.allclose(x / math.sqrt(1 + sigmas[first] ** 2), unit_variance, atol=1e-5)


@settings(max_examples=20)
@given(COUNTS)
def test_like_a1111_beta_has_quantiles_of_sigma(steps):
    stats = pytest.importorskip("scipy.stats")
    shares = stats.beta.ppf(1 - np.linspace(0, 1, steps), 0.6, 0.6)
    expected = [*(LEVELS.sigma_min + shares * (LEVELS.sigma_max - LEVELS.sigma_min)), 0]
    assert run("euler", steps, "beta") == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(COUNTS)
def test_like_a1111_kl_optimal_ends_at_the_lowest_level_not_at_0(steps):
    i = np.arange(steps + 1)
    high, low = math.atan(LEVELS.sigma_max), math.atan(LEVELS.sigma_min)
    expected = np.tan(i / steps * low + (1 - i / steps) * high)
    assert run("euler", steps, "kl_optimal") == pytest.approx(expected.tolist(), rel=1e-9)
    assert A1111.final_scale(LEVELS.sigma_min, "euler") == 1  # k-diffusion leaves x as it is


@given(COUNTS)
def test_like_a1111_align_your_steps_keeps_the_ends_of_the_table(steps):
    table = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029]
    logs = np.interp(np.linspace(0, 1, steps), np.linspace(0, 1, 11), np.log(table))
    visited = run("euler", steps, "align_your_steps")
    assert visited == pytest.approx([*np.exp(logs), 0])
    assert visited[0] == 14.615


@given(COUNTS)
def test_like_a1111_ddim_schedule_visits_all_levels(steps):
    expected = [*TABLE[1 :: max(1000 // steps, 1)][::-1], 0]
    assert run("euler", steps, "ddim_uniform") == expected


@given(COUNTS)
@pytest.mark.parametrize("sampler", ["dpm2", "dpm2_a", "dpmpp_3m_sde"])
def test_like_a1111_dpm2_and_3m_sde_leave_out_the_last_but_one_sigma(sampler, steps):
    longer = list(registry.find("schedules", "karras")(steps + 1, LEVELS))
    assert run(sampler, steps, "karras") == [*longer[:-2], 0]


def karras(n: int, low: float, high: float) -> list[float]:
    ramp = np.linspace(0, 1, n)
    return [*((high ** (1 / 7) + ramp * (low ** (1 / 7) - high ** (1 / 7))) ** 7), 0]


def restart_levels(sigmas: list[float]) -> list[tuple[float, float]]:
    """The steps of A1111's restart sampler on a schedule, with its own list of restarts."""
    steps, restarts = len(sigmas) - 1, {}
    if steps >= 20:
        count, times = (9, 1) if steps < 36 else (steps // 4, 2)
        sigmas = karras(steps - count * times, sigmas[-2], sigmas[0])
        restarts = {int(np.argmin(np.abs(np.array(sigmas) - 0.1))): (count + 1, times, 2)}
    walked = []
    for i, step in enumerate(pairwise(sigmas)):
        walked.append(step)
        if i + 1 in restarts:
            count, times, highest = restarts[i + 1]
            top = int(np.argmin(np.abs(np.array(sigmas) - highest)))
            if top < i + 1:
                again = karras(count, sigmas[i + 1], sigmas[top])[:-1]
                walked += list(pairwise(again)) * times
    return walked


@pytest.mark.parametrize("schedule", ["karras", "uniform"])
@pytest.mark.parametrize("steps", [1, 8, 19, 20, 25, 35, 36, 50, 100])
def test_like_a1111_restart_repeats_steps_within_the_number_that_was_asked_for(steps, schedule):
    sigmas = run("restart", steps, schedule)
    evaluated, draws = [], []

    def denoise(x, sigma):
        evaluated.append(sigma)
        return x * 0.5

    def noise(sigma, lower):
        draws.append((sigma, lower))
        return torch.zeros(1)

    yields = list(
        A1111.sampler(Spec("restart"), schedule, steps, LEVELS)(denoise, torch.ones(1), sigmas, noise)
    )
    walked = restart_levels(sigmas)
    expected = [level for step in walked for level in step if level > 0]
    assert len(yields) == len(walked) == steps
    assert evaluated == pytest.approx(expected)
    assert len(draws) == (0 if steps < 20 else 1 if steps < 36 else 2)


def test_like_a1111_dpm_adaptive_goes_from_the_highest_level_to_the_lowest_in_one():
    assert run("dpm_adaptive", 20, "karras") == [LEVELS.sigma_max, LEVELS.sigma_min]


def test_like_a1111_ddim_takes_7_evaluations_for_8_steps(sd, toy):
    ran = sd("txt2img", "x", "-m", toy, "--steps", "8", "--seed", "1", "--like", "a1111", "--sampler", "ddim",
             "--steps-dir", "steps")  # fmt: skip
    assert ran.code == 0, ran.err


@pytest.mark.parametrize("sampler", ["ddim", "unipc", "plms"])
@pytest.mark.parametrize("strength", ["0.01", "0.5", "1"])
def test_like_a1111_img2img_draws_at_every_strength(sd, toy, sampler, strength):
    first = sd("txt2img", "x", "-m", toy, "--steps", "2", "--seed", "1").lines[0]
    ran = sd("img2img", "x", "-i", first, "-m", toy, "--steps", "6", "--seed", "1", "--like", "a1111", "--sampler",
             sampler, "--strength", strength)  # fmt: skip
    assert ran.code == 0, ran.err
