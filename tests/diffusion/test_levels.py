"""Noise levels and schedules: known answers, and what holds for every number of steps."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcli import registry
from sdcli.diffusion.levels import Levels

LEVELS = Levels.scaled_linear()


def test_the_table_has_its_known_ends():
    assert LEVELS.table[0] == pytest.approx(0.029167158151720367, rel=1e-12)
    assert LEVELS.table[1] == pytest.approx(0.041314411996783, rel=1e-12)
    assert LEVELS.table[999] == pytest.approx(14.614641229333639, rel=1e-12)


@given(st.floats(0, 999))
def test_from_a_timestep_to_sigma_and_back(t):
    assert LEVELS.t(LEVELS.sigma(t)) == pytest.approx(t, abs=1e-6)


def test_whole_timesteps_are_exact_and_the_outside_is_clamped():
    assert [LEVELS.t(sigma) for sigma in LEVELS.table] == list(map(float, range(1000)))
    assert LEVELS.sigma(-3) == LEVELS.sigma_min
    assert LEVELS.sigma(2000) == LEVELS.sigma_max
    assert (LEVELS.t(1e-9), LEVELS.t(1e9)) == (0, 999)


def test_between_timesteps_the_logarithm_is_linear():
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


def test_karras_has_its_known_values():
    known = [14.6146, 9.1029, 5.4784, 3.1686, 1.7494, 0.9141, 0.4469, 0.2014, 0.0819, 0.0292, 0]
    assert registry.find("schedules", "karras")(10, LEVELS) == pytest.approx(known, abs=5e-5)


@pytest.mark.parametrize(
    ("schedule", "timesteps"),
    [("uniform", [999, 666, 333, 0]), ("leading", [751, 501, 251, 1]), ("trailing", [999, 749, 499, 249])],
)
def test_four_steps_visit_the_known_timesteps(schedule, timesteps):
    sigmas = registry.find("schedules", schedule)(4, LEVELS)[:-1]
    assert [LEVELS.t(sigma) for sigma in sigmas] == pytest.approx(timesteps)
