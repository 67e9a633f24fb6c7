"""Notes: what in a prompt may not mean what its writer thinks, a clause each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from sdcli.request.prompt import schedule
from sdcli.request.prompt.chunks import Chunk
from sdcli.request.prompt.pieces import BREAK
from sdcli.request.prompt.reading import A1111, COMFYUI, COMPEL, OURS, PLAIN, Dialect
from sdcli.request.prompt.schedule import Timeline
from sdcli.tokenizer import CHUNK, Tokenizer

SHOWN = 40  # characters of one find

_NETWORK = r"<\w+:[^<>\n]*>"  # <lora:name:0.8>, <hypernet:name>
_EMBEDDING = r"\bembedding:[\w./\\-]+"  # a textual inversion, ComfyUI
_WORDS = r"\bBREAK\b|\bAND\b"  # chunks and composed prompts, A1111
_ESCAPED = r"\\[()\[\]{}]"
_WEIGHTED = r"\([^()\n]*\)(?!\d|[+-])"  # (word:1.3): A1111 and ComfyUI
_NUMBERED = r"\([^()\n]*:\s*[\d.]+\s*\)"
_COMPEL = r"\([^()\n]*\)(?:[+-]+|\d+(?:\.\d+)?)|(?<![\w+])[A-Za-z]{2,}\+{1,3}(?=[\s,.]|$)"  # (word)++, word++
_SQUARE = r"\[[^\[\]\n]*\]"  # [word], [a:b:0.5], [a|b]: A1111
_BRACES = r"\{[^{}\n]*\}"  # {a|b}: one at random; {word}: weight in NovelAI
_WILDCARD = r"__[\w*/-]+__"

_FOREIGN = {
    PLAIN: (_NETWORK, _EMBEDDING, _WORDS, _ESCAPED, _COMPEL, _WEIGHTED, _SQUARE, _BRACES, _WILDCARD),
    OURS: (_NETWORK, _EMBEDDING, _COMPEL),
    A1111: (_NETWORK, _EMBEDDING, _COMPEL, _BRACES, _WILDCARD),
    COMFYUI: (_NETWORK, _WORDS, _COMPEL, _SQUARE, _BRACES, _WILDCARD),
    COMPEL: (_NETWORK, _EMBEDDING, _NUMBERED, _WORDS, _SQUARE, _BRACES, _WILDCARD),
}
"""Dialect -> the syntax of other languages, which it takes for words."""

_SWITCH = re.compile(r"\[[^\[\]]*:[^\[\]]*?:?\s*[+-]?[.\d]+\s*\]|\[[^\[\]]*\|[^\[\]]*\]")


def taken_for_words(language: Dialect, *prompts: str) -> Iterator[str]:
    """A line that names each piece of another tool's prompt syntax that this language takes for words; or nothing."""
    syntax = re.compile("|".join(f"(?:{each})" for each in _FOREIGN[language]))
    found = (_shown(match[0]) for prompt in prompts for match in syntax.finditer(language.clean(prompt)))
    if words := list(dict.fromkeys(found)):
        yield f"read as plain words, for it is another tool's syntax: {', '.join(words)}"


def notes(
    prompt: str,
    language: Dialect,
    timeline: Timeline,
    tokenizer: Tokenizer | None = None,
    embeddings: Mapping[str, int] | None = None,
) -> Iterator[str]:
    """What in a prompt may not mean what its writer thinks. What takes tokens to tell needs a tokenizer."""
    text = language.clean(prompt)
    for part in language.split(text):
        if language.changes:
            yield from _of_schedule(part.text, timeline)
        if language.split is A1111.split and part.weight != 1 and len(language.split(text)) == 1:
            yield f"A1111 reads the number at the end, {part.weight:g}, as a weight of the whole prompt"
        yield from _of_breaks(part.text, language)
        if tokenizer is not None:
            pieces = language.pieces(part.text)
            yield from _of_chunks(language.chunked(pieces, tokenizer, embeddings or {}), BREAK in pieces)
            yield from _of_embeddings(part.text, embeddings or {}, tokenizer)


def _of_schedule(text: str, timeline: Timeline) -> Iterator[str]:
    items = schedule.parse(text)
    if items == (text,) and (switch := _SWITCH.search(text)) and re.search(r"[|\\]", text):
        cause = "a | outside of [ ]" if "|" in _SWITCH.sub("", text) else "a stray backslash"
        yield f"{cause} switches all changing words off, {_shown(switch[0])} too"
    for item in schedule.switches(items):
        step = timeline.step(item.when)
        if "." in item.when and float(item.when) > 1 and not timeline.earlier:
            yield f"{_shown(item.typed)} changes in the second pass of --hires alone"
        elif step >= timeline.steps:
            hint = "; write 1 for step 1" if item.when == "1.0" else ""
            yield f"{_shown(item.typed)} never changes: the run has {timeline.steps} steps{hint}"
        elif step < 1 and item.before:
            yield f"{_shown(item.typed)} has changed before the first step"


def _of_breaks(text: str, language: Dialect) -> Iterator[str]:
    for piece in language.pieces(text):
        if piece.text == BREAK.text and piece != BREAK and piece.weight < 0:
            yield f"BREAK inside brackets is the word BREAK at weight {piece.weight:g} to A1111"


def _of_chunks(chunks: Sequence[Chunk], has_breaks: bool) -> Iterator[str]:
    for number, (chunk, behind) in enumerate(pairwise(chunks), 1):
        padding = CHUNK - len(chunk)
        if padding and behind and behind[0].embedding:
            name = behind[0].embedding
            yield f"{name} does not fit into chunk {number} and begins the next one; {padding} places stay empty"
        elif padding and not has_breaks:
            yield f"chunk {number} ends at its last comma; {padding} places stay empty"


def _of_embeddings(text: str, embeddings: Mapping[str, int], tokenizer: Tokenizer) -> Iterator[str]:
    for name in embeddings:
        if (
            name.isalpha()
            and len(tokenizer.ids(name)) == 1
            and re.search(rf"\b{re.escape(name)}\b", text, re.IGNORECASE)
        ):
            yield f"{name} is an ordinary word too, and stands for the embedding here"


def _shown(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
