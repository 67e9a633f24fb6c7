"""ComfyUI: emphasis as ComfyUI reads it: `(word)` is 1.1 times, `(word:1.3)` is 1.3.

A number replaces what the brackets around it say, so that the b of `(a (b:2) c:0.5)` has weight 2. Square brackets and
BREAK are plain words.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence

from sdcli.request.prompt.pieces import Piece

ROUND = 1.1
_BRACKET = re.compile(r"\\[()]|[()]")
_ESCAPED = re.compile(r"\\([()])")

Span = tuple[int, int, float]
"""A part of a text from one position to another, and its weight."""


def parse(text: str) -> list[Piece]:
    """The pieces of a text, in its order; none if it holds no words.

    Neighbours of equal weight stay two pieces, for each is tokenised by itself. Brackets without a partner are text,
    and so is the opening bracket that follows a closing one without a partner.
    """
    brackets = [found.start() for found in _BRACKET.finditer(text) if found[0] in "()"]
    closing_of = _partners(text, brackets)
    pieces: list[Piece] = []
    to_read: list[Span] = [(0, len(text), 1.0)]  # the last one is read next
    while to_read:
        start, end, weight = to_read.pop()
        opening = _first_opening(text, brackets, start, end)
        pieces += _as_text(text, start, opening, weight)
        closing = closing_of.get(opening, end)
        if closing >= end > opening and _is_closing(text, brackets, end - 1):
            closing = end - 1  # never closed, but all that is left stands in brackets
        if closing >= end:
            pieces += _as_text(text, opening, end, weight)
            continue
        to_read.append((closing + 1, end, weight))
        to_read.append(_inside(text, opening + 1, closing, weight))
    return pieces


def _partners(text: str, brackets: Sequence[int]) -> dict[int, int]:
    """The position of each opening bracket that is closed -> that of its closing one."""
    opened: list[int] = []
    partners: dict[int, int] = {}
    for position in brackets:
        if text[position] == "(":
            opened.append(position)
        elif opened:
            partners[opened.pop()] = position
    return partners


def _first_opening(text: str, brackets: Sequence[int], start: int, end: int) -> int:
    """The position of the first bracket that opens a group; `end` if there is none."""
    surplus = 0  # closing brackets without an opening one
    for i in range(bisect_left(brackets, start), bisect_left(brackets, end)):
        if text[brackets[i]] == ")":
            surplus += 1
        elif surplus:
            surplus -= 1
        else:
            return brackets[i]
    return end


def _is_closing(text: str, brackets: Sequence[int], position: int) -> bool:
    """True if there is a closing bracket that is not escaped."""
    i = bisect_left(brackets, position)
    return i < len(brackets) and brackets[i] == position and text[position] == ")"


def _inside(text: str, start: int, end: int, weight: float) -> Span:
    """What stands in brackets, without the number at its end, and its weight."""
    colon = text.rfind(":", start, end)
    if colon > start:
        try:
            return start, colon, float(text[colon + 1 : end])
        except ValueError:
            pass
    return start, end, weight * ROUND


def _as_text(text: str, start: int, end: int, weight: float) -> list[Piece]:
    words = _ESCAPED.sub(r"\1", text[start:end])
    return [Piece(words, weight)] if words else []
