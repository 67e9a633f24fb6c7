"""Tokens: texts and token ids as the chunks of a prompt without weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sdcli import tokenizer
from sdcli.request.prompt.chunks import Chunk, Token


def plain(rows: Iterable[Sequence[int]]) -> list[Chunk]:
    """Chunks of the tokens with these ids."""
    return [tuple(Token(id) for id in row) for row in rows]


def plain_text(text: str) -> list[Chunk]:
    """The chunks of a text in CLIP's own vocabulary."""
    return plain(tokenizer.chunks(text))
