"""Reading: a prompt as parts whose texts follow each other while the steps go by, in the language of a tool."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial

from sdcli.request.prompt import attention, chunks, comfyui, comments, parts, schedule
from sdcli.request.prompt.chunks import Chunk
from sdcli.request.prompt.pieces import Piece
from sdcli.request.prompt.schedule import Entry, Timeline
from sdcli.request.prompt.sentences import chunked_by_sentences
from sdcli.tokenizer import Tokenizer

Cut = Callable[[Sequence[Piece], Tokenizer, Mapping[str, int]], tuple[Chunk, ...]]
"""(pieces, tokenizer, embeddings: name -> number of vectors) -> chunks."""


def _as_typed(text: str) -> str:
    return text


def _in_rows(
    pieces: Sequence[Piece], tokenizer: Tokenizer, embeddings: Mapping[str, int]
) -> tuple[Chunk, ...]:
    return chunks.chunked(pieces, tokenizer, embeddings, backtrack=0)


def _compel_pieces(text: str) -> list[Piece]:
    """The pieces of all the texts that are blended or follow each other."""
    from sdcli.request.prompt import compel

    return [piece for blend in compel.parse(text).parts for pieces in blend.texts for piece in pieces]


def _by_sentences(
    pieces: Sequence[Piece], tokenizer: Tokenizer, embeddings: Mapping[str, int]
) -> tuple[Chunk, ...]:
    rows = _in_rows(pieces, tokenizer, embeddings)
    return chunked_by_sentences([token for chunk in rows for token in chunk])


def _one_piece(text: str) -> list[Piece]:
    return [Piece(text)]


@dataclass(frozen=True, eq=False)
class Dialect:
    """A language of prompts. The plain one, of which the others are changes, knows words alone."""

    pieces: Callable[[str], list[Piece]] = _one_piece
    chunked: Cut = _in_rows
    clean: Callable[[str], str] = _as_typed
    """The prompt without its comments."""
    split: Callable[[str], list[Piece]] = _one_piece
    """The parts of a prompt."""
    split_negative: Callable[[str], list[Piece]] = _one_piece
    """The parts of a negative prompt."""
    changes: bool = False
    """True if words can change while the steps go by."""
    from_zero: bool = False
    """True if the first evaluation of the network is taken for step 0 of a schedule."""
    evaluations: Mapping[str, int] = field(default_factory=dict)
    """Samplers whose evaluations of the network are counted in place of their steps -> evaluations a step."""

    def timeline(self, sampler: str, steps: int, first_pass: int = 0) -> Timeline:
        """What schedules are counted in, in a run of so many steps behind a first pass of so many."""
        count = self.evaluations.get(sampler, 1)
        return Timeline(steps * count, first_pass * count)


TWO_EVALUATIONS = dict.fromkeys(("heun", "dpm2", "dpm2_a", "dpmpp_2s_a", "dpmpp_sde", "restart"), 2)
"""Samplers for which A1111 counts two steps each."""

PLAIN = Dialect()
OURS = Dialect(
    pieces=attention.parse,
    chunked=chunks.chunked,
    clean=comments.whole_line_comments,
    split=parts.parse,
    split_negative=parts.parse,
    changes=True,
)
A1111 = Dialect(
    pieces=partial(attention.parse, break_in_brackets=False),
    chunked=chunks.chunked,
    clean=comments.cut_comments,
    split=partial(parts.parse, weights_alone=True),
    changes=True,
    from_zero=True,
    evaluations=TWO_EVALUATIONS,
)
COMFYUI = Dialect(pieces=comfyui.parse, chunked=chunks.chunked_by_words)
COMPEL = Dialect(pieces=_compel_pieces, chunked=_by_sentences)


def dialect(emphasis: str, like: str) -> Dialect:
    """The language that goes with an emphasis; ours is A1111's without its traps, unless `like` asks for them."""
    if emphasis in ("a1111", "no_norm"):
        return A1111 if like == "a1111" else OURS
    return {"none": PLAIN, "comfyui": COMFYUI, "compel": COMPEL}[emphasis]


def words_change(*prompts: str) -> bool:
    """True if words of a prompt in A1111's language change while the steps go by."""
    return any(schedule.is_scheduled(schedule.parse(prompt)) for prompt in prompts)


def is_typographic(text: str) -> bool:
    """True if a prompt has characters that some tools replace with plainer ones before they read it."""
    entity = re.search(r"&(?:\w+|#\d+);", text)
    return bool(entity) or any(c in "‘’“”" for c in text) or unicodedata.normalize("NFKC", text) != text


@dataclass(frozen=True)
class Part:
    """A part of a prompt: its weight, and the texts that it is while the steps go by."""

    text: str  # as it is typed
    weight: float
    entries: tuple[Entry, ...]

    def at(self, evaluation: int, from_zero: bool = False) -> str:
        """The text in an evaluation of the network, counted from 0."""
        return schedule.active(self.entries, evaluation, from_zero)


@lru_cache(maxsize=64)  # for a prompt is read several times before it is drawn
def read(prompt: str, language: Dialect, timeline: Timeline, negative: bool = False) -> tuple[Part, ...]:
    """The parts of a prompt, in its order; an empty prompt is one part without words."""
    split = language.split_negative if negative else language.split
    return tuple(_part(piece, language, timeline) for piece in split(language.clean(prompt)))


def _part(piece: Piece, language: Dialect, timeline: Timeline) -> Part:
    typed = (Entry(timeline.steps, piece.text),)
    return Part(
        piece.text, piece.weight, schedule.entries(piece.text, timeline) if language.changes else typed
    )
