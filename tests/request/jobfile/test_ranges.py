"""Ranges: closed-form values, and what is refused."""

from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sdcli.errors import UsageError
from sdcli.request.jobfile.ranges import parse_range


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1..8", [1, 2, 3, 4, 5, 6, 7, 8]),
        ("8..5", [8, 7, 6, 5]),
        ("3..3", [3]),
        ("-2..1", [-2, -1, 0, 1]),
        ("4..10 by 2", [4, 6, 8, 10]),
        ("4..9 by 2", [4, 6, 8]),
        ("10..4 by 2", [10, 8, 6, 4]),
        ("10..4 by -3", [10, 7, 4]),
        ("1..10 in 4", [1, 4, 7, 10]),
        ("10..1 in 4", [10, 7, 4, 1]),
        ("1..10 in 5", [1, 3, 6, 8, 10]),
        ("5..5 in 1", [5]),
        (" 1 .. 3 ", [1, 2, 3]),
    ],
)
def test_a_range_of_whole_numbers(text, values):
    assert parse_range(text, whole=True) == values


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.3..0.9 in 4", [0.3, 0.5, 0.7, 0.9]),
        ("0.1..0.5 by 0.1", [0.1, 0.2, 0.3, 0.4, 0.5]),
        ("0.9..0.3 by 0.3", [0.9, 0.6, 0.3]),
        ("0.4..0.8 by 0.2", [0.4, 0.6, 0.8]),
        ("1..2 by 0.3", [1.0, 1.3, 1.6, 1.9]),
        ("0..1 in 4", [0.0, 1 / 3, 2 / 3, 1.0]),
        ("1.5..3", [1.5, 2.5]),
    ],
)
def test_a_range_of_numbers_is_counted_in_decimals(text, values):
    assert parse_range(text, whole=False) == values


@pytest.mark.parametrize(
    ("text", "whole", "values"),
    [
        ("1-10", True, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        ("1-10 (+2)", True, [1, 3, 5, 7, 9]),
        ("10-1 (-1)", True, [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]),  # A1111 ends at 3
        ("1-2 (+0.3)", False, [1.0, 1.3, 1.6, 1.9]),  # A1111 goes on to 2.2
        ("1-10 [5]", True, [1, 3, 6, 8, 10]),  # A1111 cuts: 1, 3, 5, 7, 10
        ("0.5-1 [3]", False, [0.5, 0.75, 1.0]),
        ("-3--1", True, [-3, -2, -1]),
    ],
)
def test_a1111s_spellings_are_understood_without_their_faults(text, whole, values):
    assert parse_range(text, whole, a1111=True) == values


@pytest.mark.parametrize(
    "text", ["1:8", "1-8", "1..", "..8", "1..8 by", "1..8..9", "a..b", "1e3..2e3", "", "٣..٤"]
)
def test_another_text_is_no_range(text):
    assert parse_range(text, whole=True) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1..8 by 0", "a step of 0"),
        ("1..8 by -1", "leads away"),
        ("10-1 (+1)", "leads away"),
        ("1-10 (-1)", "leads away"),
        ("1..2 by 0.5", "whole numbers are wanted"),
        ("1.5..3", "whole numbers are wanted"),
        ("1..3 in 5", "come twice"),
        ("3..3 in 2", "come twice"),
        ("1..3 in 1", "two ends"),
        ("1..3 in 0", "two ends"),
        ("1..1000001", "1,000,001 values"),
        ("0..99999999999999999999 in 99999999999999999999", "99,999,999,999,999,999,999 values"),
    ],
)
def test_a_range_that_cannot_be_meant_is_refused_with_its_reason(text, reason):
    with pytest.raises(UsageError, match=reason):
        parse_range(text, whole=True, a1111=True)


DECIMALS = st.decimals(-1000, 1000, places=3)


@given(DECIMALS, DECIMALS, st.decimals("0.5", 50, places=3))
def test_steps_begin_at_the_first_end_and_never_go_past_the_last(first, last, step):
    values = parse_range(f"{first}..{last} by {step}", whole=False)
    assert values[0] == float(first)
    assert all(
        min(first, last) <= Fraction(value).limit_denominator(1000) <= max(first, last) for value in values
    )
    assert abs(Fraction(last) - Fraction(values[-1]).limit_denominator(1000)) < Fraction(step)


@given(DECIMALS, DECIMALS, st.integers(2, 50))
def test_so_many_values_have_both_ends_and_equal_distances(first, last, number):
    assume(first != last)
    values = parse_range(f"{first}..{last} in {number}", whole=False)
    assert (len(values), values[0], values[-1]) == (number, float(first), float(last))
    exact = [Fraction(first) + (Fraction(last) - Fraction(first)) * i / (number - 1) for i in range(number)]
    assert values == [float(value) for value in exact]
