"""Chunks: pieces of a prompt as token ids with weights, in chunks of 75, each read by one pass of the text encoder."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sdcli.request.prompt.pieces import BREAK, Piece
from sdcli.tokenizer import CHUNK, Tokenizer, framed

COMMA = 267
BACKTRACK = 20
"""A chunk that is full ends at its last comma, if that is at most so many tokens back."""
SHORT_WORD = 8
"""ComfyUI moves a group of fewer tokens to the next chunk as a whole, if it does not fit."""


_EMBEDDING = re.compile(r"(?:^|(?<=\s))embedding:")


@dataclass(frozen=True)
class Token:
    """A token of a prompt. The place of a learned vector has id 0, its embedding's name and the vector's number."""

    id: int
    weight: float = 1.0
    embedding: str = ""
    vector: int = 0


Chunk = tuple[Token, ...]
"""At most 75 tokens, without BEGIN, END and padding."""


def ids(chunk: Chunk, pad: int) -> list[int]:
    """The 77 ids that the text encoder is given: BEGIN, the tokens, END, padding."""
    return framed([token.id for token in chunk], pad)


def weights(chunk: Chunk) -> list[float]:
    """The weights of the 77 ids; those of BEGIN, END and the padding are 1."""
    return [1.0, *(token.weight for token in chunk), *[1.0] * (CHUNK + 1 - len(chunk))]


def count(pieces: Sequence[Piece], chunks: Sequence[Chunk]) -> int:
    """The tokens that a prompt takes up, as A1111 counts them: 75 for each chunk that is ended."""
    words = [piece for piece in pieces if piece.text.strip()]
    is_ended = bool(words) and words[-1] == BREAK
    return CHUNK * (len(chunks) - 1) + (CHUNK if is_ended else len(chunks[-1]))


def chunked(
    pieces: Sequence[Piece],
    tokenizer: Tokenizer,
    embeddings: Mapping[str, int] | None = None,
    backtrack: int = BACKTRACK,
) -> tuple[Chunk, ...]:
    """The chunks of a prompt, as A1111 cuts it; an empty prompt is one empty chunk. No token is dropped.

    Each piece is tokenised by itself. `embeddings` are the learned vectors that a name stands for: name -> how many.
    A chunk ends at a BREAK, before an embedding that does not fit, and at 75 tokens: there, what stands behind its last
    comma goes over to the next chunk, if the comma is at most `backtrack` tokens back.
    """
    filling = _Filling(backtrack)
    names = _names(tokenizer, embeddings or {})
    bracketed = _bracketed(embeddings or {})
    for piece in pieces:
        if piece == BREAK:
            filling.end()
            continue
        text = bracketed.sub(r" \g<0> ", piece.text)
        for group in _groups(tokenizer.ids(text), piece.weight, names):
            filling.add(group)
    if filling.current or not filling.chunks:
        filling.end()
    return tuple(filling.chunks)


def chunked_by_words(
    pieces: Sequence[Piece], tokenizer: Tokenizer, embeddings: Mapping[str, int] | None = None
) -> tuple[Chunk, ...]:
    """The chunks of a prompt, as ComfyUI cuts it; an empty prompt is one empty chunk. No token is dropped.

    Each piece, up to an `embedding:name` in it, is one group. A group that does not fit is cut at 75 tokens, or moves
    to the next chunk as a whole if it has fewer than 8.
    """
    chunks: list[list[Token]] = [[]]
    for piece in pieces:
        for group in _comfyui_groups(piece, tokenizer, embeddings or {}):
            while len(chunks[-1]) + len(group) > CHUNK:
                room = CHUNK - len(chunks[-1]) if len(group) >= SHORT_WORD else 0
                chunks[-1].extend(group[:room])
                group = group[room:]
                chunks.append([])
            chunks[-1].extend(group)
    return tuple(map(tuple, chunks))


class _Filling:
    """Chunks that are being filled with tokens."""

    def __init__(self, backtrack: int) -> None:
        self.backtrack = backtrack
        self.chunks: list[Chunk] = []
        self.current: list[Token] = []
        self.comma = 0  # tokens up to the last comma, with it; 0: none

    def add(self, group: Chunk) -> None:
        """Add one token, or all the vectors of an embedding, which stay in one chunk."""
        if group[0].id == COMMA:
            self.comma = len(self.current) + 1
        elif len(self.current) == CHUNK and self.comma and CHUNK - (self.comma - 1) <= self.backtrack:
            behind = self.current[self.comma :]
            self.current = self.current[: self.comma]
            self.end()
            self.current = behind
        is_full = len(self.current) == CHUNK
        if is_full or (group[0].embedding and len(self.current) + len(group) > CHUNK):
            self.end()
        self.current.extend(group)

    def end(self) -> None:
        """End the chunk that is being filled."""
        self.chunks.append(tuple(self.current))
        self.current, self.comma = [], 0


def _names(tokenizer: Tokenizer, embeddings: Mapping[str, int]) -> list[tuple[list[int], Chunk]]:
    """The ids of each embedding's name, the longest first, with the vectors that it stands for."""
    pairs = (
        (tokenizer.ids(name), tuple(Token(0, 1.0, name, i) for i in range(count)))
        for name, count in embeddings.items()
    )
    return sorted(((ids, vectors) for ids, vectors in pairs if ids), key=lambda pair: -len(pair[0]))


def _bracketed(names: Iterable[str]) -> re.Pattern[str]:
    """A pattern for the names in angle brackets, whose last one would else be one token with a comma behind it."""
    own = [re.escape(name) for name in names if name.startswith("<") and name.endswith(">")]
    return re.compile("|".join(own) or "(?!)", re.IGNORECASE)


def _groups(ids: Sequence[int], weight: float, names: Sequence[tuple[list[int], Chunk]]) -> Iterator[Chunk]:
    """Each token by itself, but the ids of an embedding's name as its vectors."""
    position = 0
    while position < len(ids):
        for name, vectors in names:
            if ids[position : position + len(name)] == name:
                yield tuple(Token(0, weight, each.embedding, each.vector) for each in vectors)
                position += len(name)
                break
        else:
            yield (Token(ids[position], weight),)
            position += 1


def _comfyui_groups(piece: Piece, tokenizer: Tokenizer, embeddings: Mapping[str, int]) -> Iterator[Chunk]:
    """The tokens between two embeddings, and the vectors of each, in a piece of ComfyUI's language."""
    spelled = {name.lower(): name for name in embeddings}
    first, *others = _EMBEDDING.split(piece.text)
    for i, words in enumerate((first, *others)):
        if i:
            typed, _, behind = words.partition(" ")
            name = spelled.get(typed.strip(",").lower())
            if name is None:
                words = f"embedding:{words}"
            else:
                yield tuple(Token(0, piece.weight, name, number) for number in range(embeddings[name]))
                words = f"{typed[len(typed.rstrip(',')) :]} {behind}"
        if group := tuple(Token(id, piece.weight) for id in tokenizer.ids(words)):
            yield group
