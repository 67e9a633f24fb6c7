"""Pieces: a text cut where the weight of its words changes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Piece(NamedTuple):
    """Some words of a prompt and the weight of their emphasis; 1 is none."""

    text: str
    weight: float = 1.0


BREAK = Piece("BREAK", -1.0)
"""The piece that ends a chunk of tokens."""


def joined(pieces: Iterable[Piece]) -> list[Piece]:
    """The pieces, neighbours of equal weight as one. A BREAK stays a piece of its own."""
    result: list[Piece] = []
    for piece in pieces:
        if result and piece.weight == result[-1].weight and BREAK not in (piece, result[-1]):
            result[-1] = Piece(result[-1].text + piece.text, piece.weight)
        else:
            result.append(piece)
    return result
