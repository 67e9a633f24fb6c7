"""Spans: the noise levels of each step."""

import math
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sdcli.diffusion.spans import Span, spans, steps_apart

LEVELS = st.lists(st.floats(0.01, 100), min_size=2, max_size=12, unique=True).map(
    lambda x: sorted(x, reverse=True)
)


def test_each_step_has_the_levels_from_its_own_down_to_the_next():
    assert spans([9.0, 4.0, 1.0, 0.0]) == [Span(math.inf, 4.0), Span(4.0, 1.0), Span(1.0, -math.inf)]


def test_a_run_without_a_step_has_no_span():
    assert spans([3.0]) == spans([]) == []


@given(LEVELS, st.sampled_from([1, 2]), st.floats(0, 200))
def test_every_level_is_in_exactly_one_span(levels, evaluations, sigma):
    assert sum(span.end < sigma <= span.start for span in spans(levels, evaluations)) == 1


def test_two_evaluations_a_step_part_it_at_its_first_level():
    found = spans([9.0, 4.0, 0.0], 2)
    assert [next(i for i, span in enumerate(found) if span.end < sigma <= span.start) for sigma in (9, 6, 4, 2)] == [
        0, 1, 2, 3,
    ]  # fmt: skip


def test_steps_between_a_first_and_a_last_level_are_even_in_the_logarithm():
    assert steps_apart([16.0, 1.0], 4) == pytest.approx([16, 8, 4, 2, 1])


@example([100.0, 99.99999999999999], 3)
@given(LEVELS, st.integers(1, 30))
def test_steps_apart_begin_and_end_where_the_levels_do_and_never_rise(levels, steps):
    found = steps_apart(levels, steps)
    assert len(found) == steps + 1 and (found[0], found[-1]) == (levels[0], levels[-1])
    assert all(high >= low for high, low in pairwise(found))
