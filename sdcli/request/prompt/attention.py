"""Attention: round and square brackets that change the weight of words, in the language of A1111's web UI.

`(word)` is 1.1 times, `[word]` 1/1.1 times, `(word:1.3)` 1.3 times. Brackets nest, and their weights multiply.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from sdcli.request.prompt.pieces import BREAK, Piece, joined

ROUND, SQUARE = 1.1, 1 / 1.1
_TOKEN = re.compile(
    r"""
      \\[()\[\]\\]  |  \\             # an escaped character; any other backslash vanishes
    | [(\[]
    | :\s*([+-]?[.\d]+)\s*\)          # the weight that ends a round bracket
    | [)\]]
    | [^\\()\[\]:]+  |  :
    """,
    re.VERBOSE,
)
_BREAK = re.compile(r"\bBREAK\b")


def parse(text: str, break_in_brackets: bool = True) -> list[Piece]:
    """The pieces of a text, in its order, neighbours of equal weight joined; an empty text is one empty piece.

    Round and square brackets are two independent stacks. A closing bracket without an opening one is text; one that is
    never closed reaches to the end. Weights may be 0 or negative. A BREAK inside brackets ends the chunk as well; A1111
    itself (`break_in_brackets` False) reads the word BREAK there, with a negative weight.
    """
    return list(_parsed(text, break_in_brackets))


@lru_cache(maxsize=64)  # for a prompt is read several times before it is drawn
def _parsed(text: str, break_in_brackets: bool) -> tuple[Piece, ...]:
    texts: list[str] = []
    weights: list[float] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}  # where the open brackets began

    def multiply(first: int, factor: float) -> None:
        weights[first:] = [weight * factor for weight in weights[first:]]

    for token, number in _tokens(text):
        if token in opened:
            opened[token].append(len(texts))
        elif number is not None and opened["("] and (weight := _number(number)) is not None:
            multiply(opened["("].pop(), weight)
        elif token == ")" and opened["("]:
            multiply(opened["("].pop(), ROUND)
        elif token == "]" and opened["["]:
            multiply(opened["["].pop(), SQUARE)
        else:
            parts = [Piece(token[1:])] if token.startswith("\\") else list(_cut_at_breaks(token))
            texts.extend(part.text for part in parts)
            weights.extend(part.weight for part in parts)
    for bracket, factor in (("(", ROUND), ("[", SQUARE)):
        for first in opened[bracket]:
            multiply(first, factor)
    pieces = zip(texts, weights, strict=True)
    return tuple(joined(_as_piece(*piece, break_in_brackets) for piece in pieces)) or (Piece(""),)


def _tokens(text: str) -> Iterator[tuple[str, str | None]]:
    """Each token, and the number of one that ends a weighted bracket."""
    for match in _TOKEN.finditer(text):
        yield match[0], match[1]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # such as 1.2.3
        return None


def _cut_at_breaks(text: str) -> Iterator[Piece]:
    """The text without its BREAKs and the blanks around them, and a BREAK in the place of each."""
    first, *others = _BREAK.split(text)
    yield Piece(first.rstrip() if others else first)
    for i, part in enumerate(others, 1):
        yield BREAK
        yield Piece(part.strip() if i < len(others) else part.lstrip())


def _as_piece(text: str, weight: float, break_in_brackets: bool) -> Piece:
    """A BREAK whose weight was multiplied in brackets is one still, or the word BREAK with that weight."""
    return BREAK if text == BREAK.text and break_in_brackets else Piece(text, weight)
