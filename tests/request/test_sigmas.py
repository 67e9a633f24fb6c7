"""One's own noise levels: what may be typed, and what it means for the number of steps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcli.errors import UsageError
from sdcli.request import sigmas
from sdcli.request.request import Request


@pytest.mark.parametrize("text", ["14.6,7,2.1,0", "14.6, 7, 2.1", " 14.6,7.0,2.1e0 ,0.0"])
def test_levels_fall_to_zero_and_have_one_spelling(text):
    assert sigmas.parse(text) == (14.6, 7, 2.1, 0)
    assert sigmas.plain(sigmas.parse(text)) == "14.6,7,2.1,0"


@given(st.lists(st.floats(1e-6, 1e4), min_size=1, max_size=30, unique=True))
def test_the_spelling_keeps_every_bit(levels):
    levels = (*sorted(levels, reverse=True), 0.0)
    assert sigmas.parse(sigmas.plain(levels)) == levels


@pytest.mark.parametrize(
    "text",
    ["", "a,b", "0", "1,2,0", "7,7,0", "7,-1", "inf,1,0", "nan,0", "7,0,0", "7,,0", ",".join(["1"] * 3)],
)
def test_others_are_usage_errors_with_an_example(text):
    with pytest.raises(UsageError, match=r"try --sigmas 14\.6"):
        sigmas.parse(text)


def test_a_request_with_levels_has_as_many_steps_and_keeps_them():
    request = Request("a cat", sigmas="14.6,7")
    assert (request.sigmas, request.steps) == ("14.6,7,0", 2)
    assert Request.from_dict(request.as_dict()) == request
    assert request.replace(schedule="karras").steps == 2


def test_other_steps_than_the_levels_are_a_usage_error():
    with pytest.raises(UsageError, match="--steps 20 is not the 2 of --sigmas"):
        Request("a cat", steps=20, sigmas="14.6,7,0")
