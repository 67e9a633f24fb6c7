"""Noise levels that the user types: what is accepted, and what it means for the number of steps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcli.errors import UsageError
from sdcli.request import sigmas
from sdcli.request.request import Request


@pytest.mark.parametrize("text", ["14.6,7,2.1,0", "14.6, 7, 2.1", " 14.6,7.0,2.1e0 ,0.0"])
def test_levels_end_in_zero_and_are_stored_in_one_spelling(text):
    assert sigmas.parse(text) == (14.6, 7, 2.1, 0)
    assert sigmas.to_text(sigmas.parse(text)) == "14.6,7,2.1,0"


@given(st.lists(st.floats(1e-6, 1e4), min_size=1, max_size=30, unique=True))
def test_the_stored_spelling_keeps_every_bit(levels):
    levels = (*sorted(levels, reverse=True), 0.0)
    assert sigmas.parse(sigmas.to_text(levels)) == levels


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not a list of numbers"),
        ("a,b", "is not a list of numbers"),
        ("7,,0", "is not a list of numbers"),
        ("7,-1", "-1 is not a noise level"),
        ("inf,1,0", "inf is not a noise level"),
        ("nan,0", "nan is not a noise level"),
        ("1,2,0", "2 after 1: the levels must fall"),
        ("7,7,0", "7 after 7: the levels must fall"),
        ("7,0,0", "0 after 0: the levels must fall"),
        ("0", "0 steps are outside 1...1000"),
        (",".join(map(str, range(1001, 0, -1))), "1001 steps are outside 1...1000"),
    ],
    ids=lambda text: text[:20],
)
def test_other_levels_are_a_usage_error_with_the_reason_and_an_example(text, reason):
    with pytest.raises(UsageError) as error:
        sigmas.parse(text)
    assert reason in str(error.value)
    assert "try --sigmas 14.6" in str(error.value)


def test_a_thousand_steps_are_allowed():
    assert len(sigmas.parse(",".join(map(str, range(1000, 0, -1))))) == 1001


def test_a_request_with_levels_has_as_many_steps():
    request = Request("a cat", sigmas="14.6,7")
    assert (request.sigmas, request.steps) == ("14.6,7,0", 2)
    assert request.replace(schedule="karras").steps == 2


def test_a_request_with_levels_goes_through_its_dict_and_back():
    request = Request("a cat", sigmas="14.6,7")
    assert Request.from_dict(request.as_dict()) == request


def test_a_number_of_steps_that_does_not_fit_the_levels_is_a_usage_error():
    with pytest.raises(UsageError, match="--steps 20 is not the 2 of --sigmas"):
        Request("a cat", steps=20, sigmas="14.6,7,0")
