"""`--like comfyui` visits the levels that ComfyUI visits, which are not always as many as were asked for.

ComfyUI run live: ddim_uniform visits all its levels (31 for 30 steps, 63 for 60), beta leaves out those that two steps
share (149 for 150). 0.1.0 made as many as asked for, 75 dB from ComfyUI's picture. The references here are the rules of
comfy/samplers.py, written out with numpy and scipy.
"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdcli.diffusion.conventions import CONVENTIONS
from sdcli.diffusion.levels import Levels
from sdcli.registry import Spec

COMFYUI = CONVENTIONS["comfyui"]
LEVELS = Levels.scaled_linear()
TABLE = np.array(LEVELS.table)
COUNTS = st.integers(1, 300)


def run(schedule: str, steps: int, sampler: str = "euler", strength: float | None = None) -> list[float]:
    sigmas, first = COMFYUI.levels(Spec(schedule), steps, LEVELS, sampler, strength)
    return sigmas[first:]


def sigma(t):
    """Sigma at timestep t, linear in its logarithm."""
    return np.exp(np.interp(t, np.arange(1000), np.log(TABLE)))


def beta(steps: int) -> list[float]:
    stats = pytest.importorskip("scipy.stats")
    t = (
        np.rint(stats.beta.ppf(1 - np.linspace(0, 1, steps, endpoint=False), 0.6, 0.6) * 999)
        .astype(int)
        .tolist()
    )
    return [TABLE[each] for i, each in enumerate(t) if i == 0 or each != t[i - 1]]


RULES = {
    "uniform": lambda steps: sigma(np.linspace(999, 0, steps)),
    "sgm_uniform": lambda steps: sigma(np.linspace(999, 0, steps + 1)[:-1]),
    "simple": lambda steps: [TABLE[-(1 + int(i * 1000 / steps))] for i in range(steps)],
    "ddim_uniform": lambda steps: TABLE[1 :: max(1000 // steps, 1)][::-1],
    "beta": beta,
    "karras": lambda steps: (
        (TABLE[-1] ** (1 / 7) + np.linspace(0, 1, steps) * (TABLE[0] ** (1 / 7) - TABLE[-1] ** (1 / 7))) ** 7
    ),
    "exponential": lambda steps: np.exp(np.linspace(math.log(TABLE[-1]), math.log(TABLE[0]), steps)),
    "kl_optimal": lambda steps: np.tan(np.linspace(math.atan(TABLE[-1]), math.atan(TABLE[0]), steps)),
}
"""Schedule -> the levels above 0 that ComfyUI visits."""


@given(COUNTS)
@settings(deadline=None)
@pytest.mark.parametrize("schedule", RULES)
def test_like_comfyui_schedules_are_those_of_its_code(schedule, steps):
    visited = run(schedule, steps)
    assert visited == pytest.approx([*RULES[schedule](steps), 0], rel=1e-9)


@pytest.mark.parametrize(("schedule", "steps", "visited"), [
    ("ddim_uniform", 30, 31), ("ddim_uniform", 60, 63), ("ddim_uniform", 20, 20), ("beta", 150, 149), ("beta", 20, 20),
])  # fmt: skip
def test_like_comfyui_schedules_have_the_counts_that_were_seen_live(schedule, steps, visited):
    assert len(run(schedule, steps)) - 1 == visited


@given(
    st.integers(2, 60), st.sampled_from([0.2, 0.3, 0.5, 0.7, 0.99]), st.sampled_from(["ddim_uniform", "beta"])
)
@settings(deadline=None)
def test_like_comfyui_schedules_over_a_picture_are_cut_from_the_end(steps, strength, schedule):
    """KSampler.set_steps: sigmas(int(steps / denoise))[-(steps + 1):]."""
    longer = [*RULES[schedule](int(steps / strength)), 0]
    assert run(schedule, steps, strength=strength) == pytest.approx(longer[-(steps + 1) :])


def test_like_comfyui_schedules_of_unipc_end_at_a_thousandth():
    visited = run("uniform", 8, "unipc")
    longer = run("uniform", 9)
    assert visited == [*longer[:-2], 0.001]
    assert COMFYUI.final_scale(0.001, "unipc") == 1


def test_like_comfyui_schedules_take_the_steps_that_they_visit(sd, toy):
    ran = sd("txt2img", "x", "-m", toy, "--steps", "30", "--seed", "1", "--like", "comfyui", "--schedule",
             "ddim_uniform", "--stop-after", "31")  # fmt: skip
    assert ran.code == 0, ran.err


def test_like_comfyui_schedules_say_that_align_your_steps_is_a_node_of_its_own(sd, toy):
    ran = sd("txt2img", "x", "-m", toy, "--steps", "2", "--seed", "1", "--like", "comfyui", "--schedule",
             "align_your_steps")  # fmt: skip
    assert ran.code == 0
    assert "Align Your Steps takes one level more" in ran.err
