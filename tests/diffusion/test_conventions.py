"""The conventions of other tools, against their published rules; each line fails if one is taken for another's."""

import math

import pytest
import torch

from sdcli import registry
from sdcli.diffusion.conventions import CONVENTIONS
from sdcli.diffusion.levels import Levels
from sdcli.errors import UsageError
from sdcli.request.request import Request

LEVELS = Levels.scaled_linear()
TOP = LEVELS.sigma_max
PICTURE, NOISE = torch.full((1, 4, 2, 2), 3.0), torch.full((1, 4, 2, 2), -2.0)


def schedule(name: str):
    return registry.find("schedules", name)


def test_the_request_knows_their_names():
    for name in CONVENTIONS:
        assert Request("x", like=name).like == name
    with pytest.raises(UsageError, match="did you mean 'comfyui'"):
        Request("x", like="comfy")


START = {  # (steps, strength) -> by tool: steps of the schedule, index of the first sigma
    (20, 0.75): {"sdcli": (20, 5), "a1111": (20, 4), "comfyui": (26, 6), "diffusers": (20, 5), "compvis": (20, 5)},
    (20, 1.0): {"sdcli": (20, 0), "a1111": (20, 0), "comfyui": (20, 0), "diffusers": (20, 0), "compvis": (20, 1)},
    (20, 0.0): {"sdcli": (20, 20), "a1111": (20, 19), "comfyui": (20, 20), "diffusers": (20, 20), "compvis": (20, 20)},
    (10, 0.59): {"sdcli": (10, 4), "a1111": (10, 4), "comfyui": (16, 6), "diffusers": (10, 5), "compvis": (10, 5)},
    (20, 0.01): {"sdcli": (20, 19), "a1111": (20, 19), "diffusers": (20, 20), "compvis": (20, 20)},
    (1, 0.5): {"sdcli": (1, 0), "a1111": (1, 0), "comfyui": (2, 1), "diffusers": (1, 1), "compvis": (1, 1)},
}  # fmt: skip


@pytest.mark.parametrize("asked", START)
def test_a_run_over_a_picture_starts_where_each_tool_starts_it(asked):
    for name, expected in START[asked].items():
        assert CONVENTIONS[name].start(*asked) == expected, name


def test_ours_runs_the_last_part_of_the_steps():
    for steps in range(1, 101):
        for percent in range(101):
            total, first = CONVENTIONS["sdcli"].start(steps, percent / 100)
            assert total == steps
            assert abs(steps - first - steps * percent / 100) <= (0.5 if percent * steps > 50 else 1)
            assert (first == steps) == (percent == 0)


def test_comfyui_always_takes_all_its_steps_and_says_when_there_is_no_such_schedule():
    for steps, strength in [(20, 0.3), (7, 0.111), (50, 0.9), (1, 0.001)]:
        total, first = CONVENTIONS["comfyui"].start(steps, strength)
        assert total - first == steps
        assert total == int(steps / strength)
    with pytest.raises(UsageError, match="the end of 2000"):
        CONVENTIONS["comfyui"].start(20, 0.01)


def test_diffusers_starts_where_its_pipeline_does():
    from diffusers import DDIMScheduler, StableDiffusionImg2ImgPipeline

    class Pipeline:
        scheduler = DDIMScheduler(beta_schedule="scaled_linear")

    for steps, strength in [(20, 0.75), (20, 0.3), (7, 0.5), (10, 0.59), (50, 1.0)]:
        Pipeline.scheduler.set_timesteps(steps)
        _, left = StableDiffusionImg2ImgPipeline.get_timesteps(Pipeline, steps, strength, "cpu")
        total, first = CONVENTIONS["diffusers"].start(steps, strength)
        assert total - first == left


UNIT, SIGMA = (lambda s: math.sqrt(1 + s**2)), (lambda s: s)
FIRST = {  # (sampler, schedule, first sigma) -> by tool
    ("euler", "karras", TOP): [UNIT, SIGMA, UNIT, SIGMA, UNIT],
    ("euler", "leading", 9.0): [UNIT, SIGMA, SIGMA, UNIT, UNIT],
    ("ddim", "leading", 9.0): [UNIT, UNIT, SIGMA, UNIT, UNIT],
    ("dpmpp_2m", "karras", TOP): [UNIT, SIGMA, UNIT, UNIT, UNIT],
    ("unipc", "", 20.0): [UNIT, UNIT, UNIT, UNIT, UNIT],
    ("heun", "", 5.0): [UNIT, SIGMA, SIGMA, SIGMA, UNIT],
}


@pytest.mark.parametrize("case", FIRST)
def test_noise_begins_at_each_tools_scale(case):
    sampler, schedule, sigma = case
    for name, scale in zip(CONVENTIONS, FIRST[case], strict=True):
        assert CONVENTIONS[name].initial_scale(sigma, LEVELS, sampler, schedule) == scale(sigma), name


def test_a_picture_lies_under_each_tools_noise():
    sigmas = list(schedule("karras")(10, LEVELS))
    for name in ("sdcli", "a1111", "comfyui", "diffusers"):
        mixed = CONVENTIONS[name].noised(PICTURE, NOISE, sigmas, 4, LEVELS)
        assert torch.allclose(mixed, PICTURE + NOISE * sigmas[4]), name
    for name, scale in {"sdcli": SIGMA, "a1111": SIGMA, "comfyui": UNIT, "diffusers": SIGMA}.items():
        mixed = CONVENTIONS[name].noised(PICTURE, NOISE, sigmas, 0, LEVELS)
        assert torch.equal(mixed, PICTURE + NOISE * scale(sigmas[0])), name
    for name in ("sdcli", "a1111", "comfyui", "diffusers"):
        assert torch.equal(CONVENTIONS[name].noised(PICTURE, NOISE, sigmas, 10, LEVELS), PICTURE), name


def test_compvis_adds_the_noise_of_one_level_more_at_unit_variance():
    sigmas = list(schedule("leading")(10, LEVELS))
    _, start = CONVENTIONS["compvis"].start(10, 0.6)
    kept = [1 / (1 + sigma**2) for sigma in sigmas]
    noisy = math.sqrt(kept[start - 1]) * PICTURE + math.sqrt(1 - kept[start - 1]) * NOISE
    mixed = CONVENTIONS["compvis"].noised(PICTURE, NOISE, sigmas, start, LEVELS)
    assert torch.allclose(mixed * math.sqrt(kept[start]), noisy)


WHOLE = {  # sampler -> whether the network hears whole timesteps, by tool
    "euler": [False, False, True, False, True],
    "dpmpp_2m": [False, False, True, True, True],
    "ddim": [False, True, True, True, True],
}


@pytest.mark.parametrize("sampler", WHOLE)
def test_levels_between_timesteps_are_told_as_each_tool_tells_them(sampler):
    assert [like.rounds_timesteps(sampler) for like in CONVENTIONS.values()] == WHOLE[sampler]


def test_the_nearest_timestep_is_that_of_comfyui_and_of_diffusers_rounding():
    import numpy as np

    logs = np.log(LEVELS.table)
    for sigma in np.exp(np.linspace(logs[0], logs[-1], 777)):
        assert round(LEVELS.t(float(sigma))) == np.abs(np.log(sigma) - logs).argmin()


ENDS = {  # (sampler, schedule) -> the last two levels, by tool, of 4 steps
    ("ddim", "leading"): [(1, 0.0), (1, "min"), (1, 0.0), (1, "min"), (1, "min")],
    ("plms", "leading"): [(1, 0.0), (1, "min"), (1, 0.0), (1, "min"), (1, "min")],
    ("deis", "trailing"): [(249, 0.0)] * 3 + [(249, "min"), (249, 0.0)],
    ("euler", "trailing"): [(249, 0.0)] * 5,
    ("dpm2_a", "simple"): [(249, 0.0), (399, 0.0), (399, 0.0), (249, 0.0), (249, 0.0)],
    ("unipc", "simple"): [(249, 0.0), (249, 0.0), (399, 0.0), (249, 0.0), (249, 0.0)],
    ("ddim", "uniform"): [(0, 0.0)] * 5,
}


@pytest.mark.parametrize("case", ENDS)
def test_the_last_levels_are_those_of_each_tool(case):
    sampler, name = case
    for (tool, like), (t, end) in zip(CONVENTIONS.items(), ENDS[case], strict=True):
        sigmas = like.sigmas(schedule(name), 4, LEVELS, sampler)
        expected = [LEVELS.sigma(t), LEVELS.sigma_min if end == "min" else end]
        assert (len(sigmas), sigmas[-2:]) == (5, expected), tool


def test_a_thousand_steps_are_not_one_more():
    assert len(CONVENTIONS["a1111"].sigmas(schedule("simple"), 1000, LEVELS, "dpm2")) == 1001
