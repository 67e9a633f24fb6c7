"""Compel's language: its own answers, what it cannot read, and what must hold for any text."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcli.errors import UsageError
from sdcli.request.prompt.compel import Blend, Conjunction, parse
from sdcli.request.prompt.pieces import Piece
from tests.request.prompt.known import answers
from tests.speed import allowed

MORE = json.loads(Path(__file__).with_name("compel.json").read_text(encoding="utf-8"))["answers"]
SIGNS = ["(", ")", '"', "+", "--", ",", ".", " ", "\\", "a", "cat", "1.3", "=", "(a)+", '("a","b")']
OPERATORS = [".blend(", ".and(", ".swap(", ".attend("]
PROMPTS = st.lists(st.sampled_from(SIGNS + OPERATORS), max_size=25).map("".join) | st.text(max_size=40)


def blends(known: dict) -> list[Blend]:
    """The parts of an answer in words.json, where a text is a list of pieces."""
    return [
        Blend(tuple(map(pieces, part["blend"])), tuple(part["weights"]), part["normalised"])
        if isinstance(part, dict)
        else Blend((pieces(part),))
        for part in known["parts"]
    ]


def pieces(typed: list) -> tuple[Piece, ...]:
    return tuple(Piece(text, weight) for text, weight in typed)


@pytest.mark.parametrize("known", answers("compel"))
def test_the_pieces_are_those_of_compel(known):
    read = parse(known["prompt"])
    assert (list(read.parts), list(read.weights)) == (blends(known), known["weights"])


@pytest.mark.parametrize("known", MORE, ids=lambda known: repr(known["prompt"]))
def test_corner_cases_are_read_as_compel_reads_them(known):
    expected = tuple(
        Blend(tuple(map(pieces, part["texts"])), tuple(part["weights"]), part["normalised"])
        for part in known["parts"]
    )
    read = parse(known["prompt"])
    assert (read.parts, read.weights) == (expected, tuple(known["weights"]))


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ('("a","b").and() c', ".and(…) must be the end of the prompt; 'c' stands behind it"),
        ('("a","b").blend(1,2) c', ".blend(…) must be the end of the prompt"),
        ('("a","b").blend(1)', "has 1 weights for 2 texts"),
        ('("a","b").and(1,x)', "x is no weight"),
        ('("a","b").and(1,no_normalize)', "no_normalize is no weight"),
        ('("a","b").blend(1,-1)', "add up to 0"),
        ('("a.swap(b)","b").blend(1,1)', "a.swap(b) cannot stand in a .blend(…)"),
        ('("a",()).and()', "a text without words"),
        ("a withLora(x, 0.5)", "withLora(x, 0.5): a LoRA cannot be named so"),
        (f'("a","b").and(1,{"9" * 400})', "is no weight"),
    ],
)
def test_what_compel_cannot_read_or_would_drop_is_refused_by_name(prompt, words):
    with pytest.raises(UsageError) as caught:
        parse(prompt)
    assert words in str(caught.value)


def test_a_swap_is_remembered_as_it_is_typed():
    assert parse("a cat.swap(dog, s_start=0.1) sat").swaps == ("cat.swap(dog, s_start=0.1)",)


@given(st.lists(st.sampled_from(["a", "red", "cat-like", "1.5", "é"]), min_size=1).map(" ".join))
def test_a_text_without_syntax_is_one_piece_of_weight_1(text):
    assert parse(text) == Conjunction((Blend(((Piece(text),),)),))


@given(PROMPTS)
def test_any_text_is_read_or_refused(text):
    try:
        read = parse(text)
    except UsageError:
        return
    assert read.parts and all(piece for part in read.parts for piece in part.texts)
    assert len(read.parts) == len(read.weights)


@pytest.mark.parametrize(
    "text",
    ["(" * 3000, '"' * 3000, "(a " * 1000, "a.swap(" * 800, '("a",' * 800, "(a)+" * 1000, "a" + "+" * 9000],
)
def test_a_long_text_is_read_at_once(text):
    start = time.process_time()
    parse(text)
    assert time.process_time() - start < allowed(5)
