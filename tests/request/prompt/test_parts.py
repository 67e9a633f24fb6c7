"""Parts: A1111's own answers, and what must hold for any text."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcli.request.prompt import parts
from sdcli.request.prompt.pieces import Piece
from tests.request.prompt.known import answers
from tests.request.prompt.strategies import PROMPTS, WORDS
from tests.speed import allowed


@pytest.mark.parametrize("known", answers("and"))
def test_the_parts_are_those_of_a1111(known):
    assert [list(part) for part in parts.parse(known["prompt"], weights_alone=True)] == known["parts"]


@given(PROMPTS, st.booleans())
def test_any_text_has_parts(text, weights_alone):
    assert parts.parse(text, weights_alone)


@given(WORDS)
def test_a_prompt_without_and_is_one_part_of_weight_1(text):
    assert parts.parse(text) == [Piece(text, 1.0)]


@pytest.mark.parametrize("prompt", ["ratio 16:9", "a cat :3", "a cat:"])
def test_the_number_behind_a_prompt_without_and_is_text(prompt):
    assert parts.parse(prompt) == [Piece(prompt, 1.0)]


@given(WORDS, WORDS, st.integers(-30, 30).map(lambda tenths: tenths / 10))
def test_the_number_behind_a_part_is_its_weight(one, other, weight):
    first, second = parts.parse(f"{one} :{weight} AND {other}")
    assert first == Piece(one.rstrip(), weight)
    assert second == Piece(f" {other}".rstrip(), 1.0)


def test_the_digits_of_a_long_number_are_read_in_under_a_second():
    start = time.process_time()
    assert parts.parse("a :" + "1" * 10_000 + "x AND b")
    assert time.process_time() - start < allowed(1)
