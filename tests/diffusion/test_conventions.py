"""Conventions of other tools, judged by diffusers' own code and by the tools' published rules, written out here."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sdcli import registry
from sdcli.diffusion.conventions import CONVENTIONS
from sdcli.diffusion.levels import SD_BETAS, Levels
from sdcli.errors import UsageError
from sdcli.registry import Spec
from sdcli.request.request import Request

LEVELS = Levels.scaled_linear()
SAMPLERS, SCHEDULES = registry.names("samplers"), registry.names("schedules")
LATENTS, NOISE = torch.full((1, 4, 2, 2), 3.0), torch.full((1, 4, 2, 2), -2.0)
COUNTS, STRENGTHS = st.integers(1, 60), st.integers(1, 100).map(lambda percent: percent / 100)


def levels_of(schedule: str, steps: int) -> list[float]:
    return list(registry.find("schedules", schedule)(steps, LEVELS))


def levels_over_a_picture(tool: str, sampler: str, schedule: str, steps: int, strength: float) -> list[float]:
    """The levels that a run over a picture visits by the conventions of a tool."""
    sigmas, first = CONVENTIONS[tool].levels(Spec(schedule), steps, LEVELS, sampler, strength)
    return sigmas[first:]


def test_the_request_accepts_each_tool_and_suggests_the_nearest_for_another_word():
    for tool in CONVENTIONS:
        assert Request("x", like=tool).like == tool
    with pytest.raises(UsageError, match="did you mean 'comfyui'"):
        Request("x", like="comfy")


# Where a run over a picture starts


@given(COUNTS, st.integers(0, 100))
def test_sdcli_runs_the_last_part_of_the_steps_rounded_but_at_least_one(steps, percent):
    total, first = CONVENTIONS["sdcli"].img2img_start(steps, percent / 100)
    assert total == steps
    assert abs(steps - first - steps * percent / 100) <= (0.5 if percent * steps > 50 else 1)
    assert (first == steps) == (percent == 0)


@given(COUNTS, STRENGTHS)
def test_a1111_visits_the_sigmas_that_its_code_slices_off(steps, strength):
    """sd_samplers_kdiffusion: t_enc = int(min(strength, 0.999) * steps); sigmas[steps - t_enc - 1:]."""
    t_enc = int(min(strength, 0.999) * steps)
    expected = levels_of("karras", steps)[steps - t_enc - 1 :]
    assert levels_over_a_picture("a1111", "euler", "karras", steps, strength) == expected


@given(COUNTS, STRENGTHS.filter(lambda strength: strength >= 0.1))
def test_comfyui_visits_the_last_sigmas_of_a_longer_schedule(steps, strength):
    """KSampler.set_steps: the last steps + 1 of the sigmas of int(steps / denoise) steps."""
    expected = levels_of("karras", int(steps / strength))[-(steps + 1) :]
    assert levels_over_a_picture("comfyui", "euler", "karras", steps, strength) == expected


@pytest.mark.parametrize("steps", [10, 20, 25, 50])  # those that divide 1000
@pytest.mark.parametrize("strength", [0.2, 0.3, 0.5, 0.75, 0.99])
def test_compvis_visits_the_timesteps_below_the_one_it_noises_to(steps, strength):
    """img2img.py: t_enc = int(strength * steps); the DDIM timesteps [:t_enc], from above; the end is alphas[0]."""
    timesteps = [t + 1 for t in range(0, 1000, 1000 // steps)][: int(strength * steps)]
    expected = [*(LEVELS.table[t] for t in reversed(timesteps)), LEVELS.sigma_min]
    assert levels_over_a_picture("compvis", "ddim", "leading", steps, strength) == expected


def test_compvis_leaves_out_the_first_step_at_strength_1():
    assert CONVENTIONS["compvis"].img2img_start(20, 1.0) == (20, 1)


def test_comfyui_says_so_if_there_is_no_schedule_that_long():
    with pytest.raises(UsageError, match="the end of 2000, more than 1000"):
        CONVENTIONS["comfyui"].img2img_start(20, 0.01)


@pytest.mark.parametrize(
    ("steps", "strength"), [(20, 0.75), (20, 0.3), (7, 0.5), (10, 0.59), (50, 1.0), (20, 0.01)]
)
def test_diffusers_visits_the_timesteps_of_its_own_pipeline(steps, strength):
    from diffusers import StableDiffusionImg2ImgPipeline

    class Pipeline:
        scheduler = judge("ddim", "leading")

    Pipeline.scheduler.set_timesteps(steps)
    timesteps, _ = StableDiffusionImg2ImgPipeline.get_timesteps(Pipeline, steps, strength, "cpu")
    visited = levels_over_a_picture("diffusers", "ddim", "leading", steps, strength)[:-1]
    assert visited == [LEVELS.table[int(t)] for t in timesteps]


@pytest.mark.parametrize("tool", ["sdcli", "comfyui", "diffusers", "compvis"])
def test_strength_0_takes_no_step(tool):
    total, first = CONVENTIONS[tool].img2img_start(20, 0.0)
    assert first == total


def test_a1111_takes_one_step_even_at_strength_0():
    assert CONVENTIONS["a1111"].img2img_start(20, 0.0) == (20, 19)


# diffusers' own schedulers, set up with Stable Diffusion 1's scheduler_config.json

CONFIG = {
    "beta_start": SD_BETAS[0],
    "beta_end": SD_BETAS[1],
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "clip_sample": False,
    "skip_prk_steps": True,
}
SCHEDULERS = {
    "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "dpm2": "KDPM2DiscreteScheduler",
    "dpm2_a": "KDPM2AncestralDiscreteScheduler",
    "lms": "LMSDiscreteScheduler",
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "plms": "PNDMScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "dpmpp_2m_sde": "DPMSolverMultistepScheduler",
    "deis": "DEISMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
    "sa_solver": "SASolverScheduler",
    "lcm": "LCMScheduler",
    "tcd": "TCDScheduler",
}


WARNS = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # diffusers with numpy 2


def judge(sampler: str, spacing: str):
    import inspect

    import diffusers

    if sampler == "lms":
        pytest.importorskip("scipy")
    scheduler = getattr(diffusers, SCHEDULERS[sampler])
    options = {**CONFIG, "timestep_spacing": spacing}
    known = inspect.signature(scheduler).parameters
    return scheduler(**{name: value for name, value in options.items() if name in known})


@WARNS
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("sampler", SCHEDULERS)
def test_noise_starts_at_the_scale_that_diffusers_scheduler_shows_the_network(sampler, spacing):
    scheduler = judge(sampler, spacing)
    scheduler.set_timesteps(4)
    t = scheduler.timesteps[0]
    shown = float(scheduler.scale_model_input(torch.tensor(float(scheduler.init_noise_sigma)), t))
    sigma, schedule = LEVELS.sigma(float(t)), {"linspace": "uniform"}.get(spacing, spacing)
    ours = CONVENTIONS["diffusers"].initial_scale(sigma, LEVELS, sampler, schedule) / math.sqrt(1 + sigma**2)
    assert ours == pytest.approx(shown, abs=2e-6)


@WARNS
@pytest.mark.parametrize("sampler", SCHEDULERS)
def test_timesteps_are_rounded_where_diffusers_scheduler_rounds_them(sampler):
    scheduler = judge(sampler, "linspace")
    scheduler.set_timesteps(7)  # 999 * i / 6: every other one lies between two timesteps
    rounds = not bool((scheduler.timesteps.double() % 1).any())
    assert CONVENTIONS["diffusers"].timestep(sampler, "uniform")(12.75) == (13 if rounds else 12.75)


@WARNS
@pytest.mark.parametrize("sampler", SCHEDULERS)
def test_a_run_ends_above_0_where_diffusers_scheduler_leaves_noise(sampler):
    """With a network that finds nothing but noise, what is left at the end is the noise of the last level."""
    scheduler = judge(sampler, "trailing")
    scheduler.set_timesteps(4)
    x = torch.ones(1, 4, 2, 2).double() * float(scheduler.init_noise_sigma)
    for t in scheduler.timesteps:
        sigma = LEVELS.sigma(float(t))
        epsilon = scheduler.scale_model_input(x, t).double() / (sigma / math.sqrt(1 + sigma**2))
        x = scheduler.step(epsilon, t, x).prev_sample.double()
    last = CONVENTIONS["diffusers"].sigmas(Spec("trailing"), 4, LEVELS, sampler)[-1]
    assert (last > 0) == (float(x.abs().max()) > 1e-3)
    assert last in (0, LEVELS.sigma_min)


# The published rules of the other tools

HIGHEST = [LEVELS.sigma_max, LEVELS.sigma_max * (1 - 1e-6), 20.0]
LOWER = [LEVELS.sigma_max * 0.999, 9.0, 0.5]
A1111_TIMESTEP_SAMPLERS = {
    "ddim",
    "euler_cfg_pp",
    "plms",
    "unipc",
}  # sd_samplers_timesteps.py; others: k-diffusion


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("sigma", [*HIGHEST, *LOWER])
def test_noise_starts_at_the_scale_of_each_tool(sampler, sigma):
    unit_variance = math.sqrt(1 + sigma**2)
    expected = {
        "sdcli": unit_variance,
        "compvis": unit_variance,
        "a1111": unit_variance
        if sampler in A1111_TIMESTEP_SAMPLERS
        else sigma,  # k-diffusion: x = noise * sigma
        "comfyui": unit_variance if sigma in HIGHEST else sigma,  # noise_scaling(max_denoise)
    }
    for tool, scale in expected.items():
        assert CONVENTIONS[tool].initial_scale(sigma, LEVELS, sampler, "karras") == scale, tool


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_timesteps_are_rounded_by_the_tools_that_have_whole_ones_only(sampler):
    given = {tool: CONVENTIONS[tool].timestep(sampler, "karras")(12.75) for tool in CONVENTIONS}
    assert given["sdcli"] == 12.75
    assert given["comfyui"] == 13  # model_sampling.timestep: the nearest in log(sigma)
    assert given["compvis"] == 13
    whole = sampler in A1111_TIMESTEP_SAMPLERS - {"unipc"}  # its UniPC has fractional timesteps: 874.125
    assert given["a1111"] == (13 if whole else 12.75)


def test_the_rounded_timestep_is_the_nearest_in_log_sigma_as_comfyui_finds_it():
    logs = np.log(LEVELS.table)
    for sigma in np.exp(np.linspace(logs[0], logs[-1], 777)):
        assert round(LEVELS.t(float(sigma))) == np.abs(np.log(sigma) - logs).argmin()


SHORTENED = {
    "a1111": {"dpm2", "dpm2_a", "dpmpp_3m_sde"},
    "comfyui": {"dpm2", "dpm2_a", "unipc"},
}  # discard_penultimate_sigma
ENDS_AT_ALPHAS_0 = {"compvis": {"ddim", "plms"}}  # alphas_prev[0]
OTHER_SCHEDULES = {  # those of the tool that have other levels; see their own tests
    "a1111": {"align_your_steps", "beta", "ddim_uniform", "kl_optimal"},
    "comfyui": {"beta", "ddim_uniform"},
}
KNOW_NO_SCHEDULE = {"a1111": {"dpm_fast", "dpm_adaptive"}}


@pytest.mark.parametrize(
    ("tool", "schedule"),
    [
        (tool, schedule)
        for tool in ("sdcli", "a1111", "comfyui", "compvis")
        for schedule in SCHEDULES
        if schedule not in OTHER_SCHEDULES.get(tool, ())
    ],
)
def test_each_tool_changes_the_ends_of_the_schedules_that_it_says_and_no_others(tool, schedule):
    for sampler in set(SAMPLERS) - KNOW_NO_SCHEDULE.get(tool, set()):
        if sampler in SHORTENED.get(tool, ()):
            longer = levels_of(schedule, 5)
            expected = [*longer[:-2], longer[-1]]
        else:
            expected = levels_of(schedule, 4)
        if sampler in ENDS_AT_ALPHAS_0.get(tool, ()):
            expected[-1] = LEVELS.table[0]
        if (tool, sampler) == ("comfyui", "unipc"):
            expected[-1] = 0.001  # extra_samplers/uni_pc.py
        sigmas = CONVENTIONS[tool].sigmas(Spec(schedule), 4, LEVELS, sampler)
        assert sigmas == expected, sampler


def test_a_schedule_of_1000_steps_is_not_made_longer_to_drop_a_level():
    assert CONVENTIONS["a1111"].sigmas(Spec("simple"), 1000, LEVELS, "dpm2") == levels_of("simple", 1000)


# The first x of a run over a picture


@pytest.mark.parametrize("tool", ["sdcli", "a1111", "comfyui", "diffusers"])
def test_a_picture_gets_sigma_times_the_noise_below_the_highest_level(tool):
    sigmas = levels_of("karras", 10)
    x = CONVENTIONS[tool].noised(LATENTS, NOISE, sigmas, 4, LEVELS)
    assert torch.allclose(x, LATENTS + NOISE * sigmas[4])


@pytest.mark.parametrize("tool", ["sdcli", "a1111", "comfyui", "diffusers"])
def test_a_picture_at_noise_level_0_gets_no_noise(tool):
    assert torch.equal(CONVENTIONS[tool].noised(LATENTS, NOISE, levels_of("karras", 10), 10, LEVELS), LATENTS)


@pytest.mark.parametrize("tool", ["sdcli", "a1111", "diffusers"])
def test_a_picture_gets_sigma_times_the_noise_at_the_highest_level_too(tool):
    x = CONVENTIONS[tool].noised(LATENTS, NOISE, levels_of("karras", 10), 0, LEVELS)
    assert torch.equal(x, LATENTS + NOISE * LEVELS.sigma_max)


def test_comfyui_gives_a_picture_at_the_highest_level_the_noise_of_a_run_without_one():
    x = CONVENTIONS["comfyui"].noised(LATENTS, NOISE, levels_of("karras", 10), 0, LEVELS)
    assert torch.equal(x, LATENTS + NOISE * math.sqrt(1 + LEVELS.sigma_max**2))


def test_diffusers_noises_a_picture_as_its_scheduler_does():
    scheduler = judge("ddim", "leading")
    scheduler.set_timesteps(10)
    sigmas = levels_of("leading", 10)
    x = CONVENTIONS["diffusers"].noised(LATENTS, NOISE, sigmas, 4, LEVELS)
    theirs = scheduler.add_noise(LATENTS, NOISE, scheduler.timesteps[4:5])
    assert torch.allclose(x / math.sqrt(1 + sigmas[4] ** 2), theirs, atol=1e-5)


def test_compvis_adds_the_noise_of_one_level_more_at_unit_variance():
    sigmas = levels_of("leading", 10)
    _, start = CONVENTIONS["compvis"].img2img_start(10, 0.6)
    alphas = [1 / (1 + sigma**2) for sigma in sigmas]
    noisy = math.sqrt(alphas[start - 1]) * LATENTS + math.sqrt(1 - alphas[start - 1]) * NOISE
    x = CONVENTIONS["compvis"].noised(LATENTS, NOISE, sigmas, start, LEVELS)
    assert torch.allclose(x * math.sqrt(alphas[start]), noisy)
