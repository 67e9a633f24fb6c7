"""ComfyUI's emphasis: its own answers, a plain recursion that agrees, and what must hold for any text."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcli.request.prompt import comfyui
from sdcli.request.prompt.pieces import Piece
from tests.request.prompt.known import answers
from tests.request.prompt.strategies import PROMPTS, WORDS
from tests.speed import allowed

BRACKETS = st.text("()ab: .5", max_size=14)


@pytest.mark.parametrize("known", answers("comfy"))
def test_the_pieces_are_those_of_comfyui(known):
    assert [list(piece) for piece in comfyui.parse(known["prompt"])] == known["pieces"]


def level_by_level(text: str, weight: float) -> list[Piece]:
    """The same pieces by the definition: cut at the brackets of level 0, then read what stands in each."""
    items, level = [""], 0
    for sign in text:
        if sign == "(" and level == 0:
            items.append("")
        level += {"(": 1, ")": -1}.get(sign, 0)
        items[-1] += sign
        if sign == ")" and level == 0:
            items.append("")
    pieces = []
    for item in filter(None, items):
        if len(item) < 2 or not (item.startswith("(") and item.endswith(")")):
            pieces.append(Piece(item, weight))
            continue
        words, _, number = item[1:-1].rpartition(":")
        try:
            inside = (words, float(number)) if words else (item[1:-1], weight * 1.1)
        except ValueError:
            inside = (item[1:-1], weight * 1.1)
        pieces += level_by_level(*inside)
    return pieces


@given(BRACKETS)
def test_brackets_of_any_kind_are_read_level_by_level(text):
    assert comfyui.parse(text) == level_by_level(text, 1.0)


@given(PROMPTS)
def test_any_text_has_pieces_that_are_not_empty(text):
    assert all(piece.text for piece in comfyui.parse(text))


@given(WORDS)
def test_a_text_without_brackets_is_itself(text):
    assert comfyui.parse(text) == ([Piece(text)] if text else [])


@given(PROMPTS)
def test_escaped_brackets_are_text_of_weight_1(text):
    words = text.replace("\\", "")
    escaped = words.replace("(", r"\(").replace(")", r"\)")
    assert comfyui.parse(escaped) == ([Piece(words)] if words else [])


@pytest.mark.parametrize(
    "text", ["(" * 10_000 + ")" * 10_000, "()" * 10_000, "(" * 10_000 + ")" * 9_999, ")(" * 9_999]
)
def test_thousands_of_brackets_are_read_in_under_a_second(text):
    start = time.process_time()
    comfyui.parse(text)
    assert time.process_time() - start < allowed(1)
