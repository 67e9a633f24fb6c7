"""Noise levels and schedules: known answers, and what holds for every number of steps."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sdcli import registry
from sdcli.diffusion.levels import Levels
from sdcli.errors import UsageError

LEVELS = Levels.scaled_linear()


def test_stable_diffusions_table_has_its_known_ends():
    assert LEVELS.table[0] == pytest.approx(0.029167158151720367, rel=1e-12)
    assert LEVELS.table[1] == pytest.approx(0.041314411996783, rel=1e-12)
    assert LEVELS.table[999] == pytest.approx(14.614641229333639, rel=1e-12)


@given(st.floats(0, 999))
def test_sigma_and_timestep_are_inverses(t):
    assert LEVELS.t(LEVELS.sigma(t)) == pytest.approx(t, abs=1e-6)


def test_whole_timesteps_are_exact_and_others_are_clamped_to_the_table():
    assert [LEVELS.t(sigma) for sigma in LEVELS.table] == list(map(float, range(1000)))
    assert LEVELS.sigma(-3) == LEVELS.sigma_min
    assert LEVELS.sigma(2000) == LEVELS.sigma_max
    assert (LEVELS.t(1e-9), LEVELS.t(1e9)) == (0, 999)


def test_between_timesteps_log_sigma_is_linear():
    middle = math.sqrt(LEVELS.table[500] * LEVELS.table[501])
    assert LEVELS.sigma(500.5) == pytest.approx(middle)


@pytest.mark.parametrize("schedule", registry.names("schedules"))
def test_a_schedule_falls_strictly_from_inside_the_table_to_zero_for_every_number_of_steps(schedule):
    make = registry.find("schedules", schedule)
    for steps in range(1, 1001):
        sigmas = make(steps, LEVELS)
        assert len(sigmas) == steps + 1
        assert all(a > b for a, b in pairwise(sigmas))
        assert sigmas[-1] == 0
        assert sigmas[0] <= LEVELS.sigma_max
        assert sigmas[-2] >= LEVELS.sigma_min
    assert make(1, LEVELS)[0] == LEVELS.sigma_max


VARIANTS = [
    "align_your_steps:clamped=false", "beta:distinct=false", "beta:in_sigma=true", "beta:in_sigma=true,ends=trailing",
    "ddim_uniform:all_levels=true", "exponential:ends=trailing", "karras:ends=leading", "kl_optimal:to_zero=false",
    "leading:beyond=1", "polyexponential:ends=trailing", "sgm_uniform:whole=true", "trailing:among=50",
    "uniform:whole=true",
]  # fmt: skip
"""Schedules with options by which they become those of another tool."""


@given(st.integers(1, 50))
@settings(deadline=None)
@pytest.mark.parametrize("schedule", VARIANTS)
def test_a_schedule_of_another_tool_falls_strictly_within_the_trained_levels(schedule, steps):
    sigmas = registry.find("schedules", schedule)(steps, LEVELS)
    assert all(a > b for a, b in pairwise(sigmas))
    assert sigmas[0] <= LEVELS.sigma_max * 1.001  # the published Align Your Steps is rounded up
    assert sigmas[-1] in (0, LEVELS.sigma_min)
    assert min(sigma for sigma in sigmas if sigma) >= LEVELS.sigma_min * 0.99
    counts_differ = schedule.startswith(("beta:distinct", "ddim_uniform"))
    assert counts_differ or len(sigmas) == steps + 1


def test_steps_that_cannot_be_chosen_among_a_tables_are_a_usage_error():
    with pytest.raises(UsageError, match="60 steps cannot be chosen among 50"):
        registry.find("schedules", "trailing:among=50")(60, LEVELS)


def test_rescaled_levels_leave_no_signal_at_the_last_and_are_those_of_diffusers():
    from diffusers.schedulers.scheduling_euler_discrete import rescale_zero_terminal_snr

    levels = LEVELS.rescaled()
    assert levels.sigma_max == pytest.approx(4095.9998, abs=1e-3)
    assert levels.sigma_min == pytest.approx(LEVELS.sigma_min)
    assert all(a < b for a, b in pairwise(levels.table))
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alphas = torch.cumprod(1 - rescale_zero_terminal_snr(betas), 0)[:-1]
    assert levels.table[:-1] == pytest.approx(((1 - alphas) / alphas).sqrt().tolist(), rel=1e-6)


def test_the_karras_schedule_has_its_known_values():
    known = [14.6146, 9.1029, 5.4784, 3.1686, 1.7494, 0.9141, 0.4469, 0.2014, 0.0819, 0.0292, 0]
    assert registry.find("schedules", "karras")(10, LEVELS) == pytest.approx(known, abs=5e-5)


@pytest.mark.parametrize(
    ("schedule", "timesteps"),
    [
        ("uniform", [999, 666, 333, 0]),
        ("leading", [751, 501, 251, 1]),
        ("ddim_uniform", [751, 501, 251, 1]),
        ("trailing", [999, 749, 499, 249]),
        ("simple", [999, 749, 499, 249]),
        ("sgm_uniform", [999, 749.25, 499.5, 249.75]),
        ("beta", [999, 823, 500, 176]),
    ],
)
def test_four_steps_visit_the_known_timesteps(schedule, timesteps):
    sigmas = registry.find("schedules", schedule)(4, LEVELS)[:-1]
    assert [LEVELS.t(sigma) for sigma in sigmas] == pytest.approx(timesteps)


def test_the_beta_schedule_is_the_rounded_quantile_of_the_distribution():
    stats = pytest.importorskip("scipy.stats")
    for steps in (1, 7, 20, 50):
        quantiles = stats.beta.ppf([1 - i / steps for i in range(steps)], 0.6, 0.6)
        sigmas = registry.find("schedules", "beta")(steps, LEVELS)[:-1]
        assert [LEVELS.t(sigma) for sigma in sigmas] == [round(q * 999) for q in quantiles]


def test_align_your_steps_has_its_published_values():
    known = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029, 0]
    assert registry.find("schedules", "align_your_steps")(11, LEVELS) == pytest.approx(known, abs=5e-4)


def test_exponential_steps_have_one_ratio():
    sigmas = registry.find("schedules", "exponential")(9, LEVELS)[:-1]
    assert [a / b for a, b in pairwise(sigmas)] == pytest.approx(
        [(LEVELS.sigma_max / LEVELS.sigma_min) ** (1 / 8)] * 8
    )


def test_kl_optimal_steps_are_even_in_the_arctangent():
    angles = [math.atan(sigma) for sigma in registry.find("schedules", "kl_optimal")(9, LEVELS)[:-1]]
    assert [a - b for a, b in pairwise(angles)] == pytest.approx([(angles[0] - angles[-1]) / 8] * 8)


def test_the_linear_half_of_linear_quadratic_covers_its_threshold():
    sigmas = registry.find("schedules", "linear_quadratic:threshold=0.1")(8, LEVELS)
    assert [sigma / LEVELS.sigma_max for sigma in sigmas[:5]] == pytest.approx([1, 0.975, 0.95, 0.925, 0.9])


@pytest.mark.parametrize(
    "spec",
    [
        "karras:rho=0",
        "polyexponential:rho=-1",
        "beta:alpha=0",
        "linear_quadratic:threshold=1",
        "leading:offset=-3",
    ],
)
def test_an_option_that_makes_no_levels_is_a_usage_error(spec):
    with pytest.raises(UsageError, match="is outside"):
        registry.find("schedules", spec)(10, LEVELS)


@pytest.mark.parametrize("rho", [0.1, 0.5, 3, 5])
@pytest.mark.parametrize("schedule", ["karras", "polyexponential"])
def test_levels_fall_for_every_rho(schedule, rho):
    sigmas = registry.find("schedules", f"{schedule}:rho={rho}")(50, LEVELS)
    assert all(a > b for a, b in pairwise(sigmas))
