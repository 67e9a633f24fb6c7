"""Sentences: tokens in chunks that end where a sentence does, as compel cuts a long prompt."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from sdcli.request.prompt.chunks import Chunk, Token
from sdcli.tokenizer import CHUNK, vocabulary


def chunked_by_sentences(tokens: Sequence[Token]) -> tuple[Chunk, ...]:
    """The chunks of a prompt; no token is one empty chunk. No token is dropped.

    While more than 75 are left, a chunk ends behind the last full stop in them, or else the last mark that ends a
    phrase, or else the last word.
    """
    chunks: list[Chunk] = []
    left = tuple(tokens)
    while len(left) > CHUNK:
        length = _length(left[:CHUNK])
        chunks.append(left[:length])
        left = left[length:]
    return (*chunks, left)


def _length(tokens: Chunk) -> int:
    """The tokens up to the best end in a full chunk."""
    for ends in _ends():
        for i in reversed(range(len(tokens))):
            if tokens[i].id in ends and not tokens[i].embedding:
                return i + 1
    return len(tokens)


@functools.cache
def _ends() -> tuple[frozenset[int], ...]:
    """The ids that end a sentence, a phrase and a word."""
    ids = vocabulary()
    marks = [frozenset(ids[f"{mark}</w>"] for mark in each) for each in (".", ".,;:")]
    return (*marks, frozenset(id for word, id in ids.items() if word.endswith("</w>")))
