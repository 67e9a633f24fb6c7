"""Attention: A1111's own answers, and what must hold for any text."""

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcli.request.prompt import attention
from sdcli.request.prompt.pieces import BREAK, Piece
from tests.request.prompt.known import answers
from tests.request.prompt.strategies import PROMPTS, WORDS
from tests.speed import allowed


@pytest.mark.parametrize("known", answers("attention"))
def test_the_pieces_are_those_of_a1111(known):
    pieces = attention.parse(known["prompt"], break_in_brackets=False)
    assert [list(piece) for piece in pieces] == known["pieces"]


@given(PROMPTS)
def test_any_text_has_pieces(text):
    assert attention.parse(text)


@given(WORDS)
def test_a_text_without_brackets_is_one_piece_of_weight_1(text):
    assert attention.parse(text) == [Piece(text, 1.0)]


@given(st.text("a ()[]\\:1.", max_size=30))
def test_escaped_brackets_and_backslashes_are_text(text):
    escaped = "".join("\\" + letter if letter in "()[]\\" else letter for letter in text)
    assert attention.parse(escaped) == [Piece(text, 1.0)]


@given(WORDS, WORDS)
def test_weight_1_is_no_weight(before, word):
    assert attention.parse(f"{before}({word}:1)") == attention.parse(before + word)


@given(WORDS.filter(bool), st.integers(-30, 30).map(lambda tenths: tenths / 10))
def test_a_bracket_gives_its_words_the_weight_that_is_typed(word, weight):
    assert attention.parse(f"({word}:{weight})") == [Piece(word, weight)]


@given(PROMPTS)
def test_neighbours_differ_in_weight(text):
    pairs = pairwise(attention.parse(text))
    assert all(one.weight != other.weight or BREAK in (one, other) for one, other in pairs)


@pytest.mark.parametrize(
    "text", ["(a BREAK b:1.2)", "(a BREAK b:-1.2)", "(a BREAK b:0)", "[a BREAK b]", "(a BREAK b"]
)
def test_a_break_in_brackets_is_a_break_whatever_their_weight(text):
    first, middle, last = attention.parse(text)
    assert (first.text, middle, last.text) == ("a", BREAK, "b")


def test_blanks_around_a_break_are_dropped():
    assert attention.parse("a \n BREAK\t b") == [Piece("a"), BREAK, Piece("b")]


@pytest.mark.parametrize(
    "text",
    [
        "(" * 10_000,
        "(" * 10_000 + "a" + ")" * 10_000,
        "([(" * 3_333,
        "]" * 10_000,
        " " * 100_000,
        "\\" * 10_000,
    ],
)
def test_many_brackets_and_blanks_are_read_in_under_a_second(text):
    start = time.process_time()
    assert attention.parse(text)
    assert time.process_time() - start < allowed(1)
