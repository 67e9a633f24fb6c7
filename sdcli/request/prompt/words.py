"""Words: where the words of a prompt stand among the rows of its context."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from sdcli.errors import UsageError
from sdcli.request.prompt.chunks import Chunk
from sdcli.tokenizer import CHUNK, Tokenizer

ROWS = CHUNK + 2
"""Rows of the context for each chunk: BEGIN, the tokens, END and padding."""
_WORD = re.compile(r"[^\W_]+(?:['’_-][^\W_]+)*")


def parse(text: str) -> tuple[str, ...]:
    """The words of `cat,red hat`, each once; a word may be several, which then stand side by side in the prompt.

    Raises UsageError if there is none, or an empty one.
    """
    words = tuple(dict.fromkeys(" ".join(word.split()) for word in text.split(",")))
    if "" in words:
        raise UsageError(f"--attention {text!r}: there is no word between two commas; write it as cat,hat")
    return words


def positions(words: Sequence[str], chunks: Sequence[Chunk], tokenizer: Tokenizer) -> dict[str, list[int]]:
    """Word -> the rows of the context, 77 for each chunk, that its tokens are; all of them, wherever it occurs.

    The name of a learned embedding stands for the rows of its vectors. A word that does not occur has no rows.
    """
    return {word: sorted(set(_rows(word, chunks, tokenizer))) for word in words}


def unknown(word: str, texts: Iterable[str]) -> UsageError:
    """The error of a word that is not in a prompt with these texts."""
    known = dict.fromkeys(found for text in texts for found in _WORD.findall(text.lower()))
    listed = f"its words are: {', '.join(known)}" if known else "it has no words"
    return UsageError(f"--attention {word!r} is not in the prompt; {listed}")


def by_encoder(
    words: Sequence[str], chunks: Mapping[str, Sequence[Chunk]], tokenizers: Mapping[str, Tokenizer]
) -> dict[str, list[int]]:
    """`positions` for a context whose rows several text encoders fill side by side: a row counts if it is one's."""
    found = [positions(words, own, tokenizers[part]) for part, own in chunks.items()]
    return {word: sorted({row for each in found for row in each[word]}) for word in words}


def _rows(word: str, chunks: Sequence[Chunk], tokenizer: Tokenizer) -> Iterator[int]:
    wanted = tokenizer.ids(word)
    for number, chunk in enumerate(chunks):
        first = ROWS * number + 1  # BEGIN comes first
        ids = [-1 if token.embedding else token.id for token in chunk]
        for i, token in enumerate(chunk):
            if token.embedding and token.embedding.lower() == word.lower():
                yield first + i
            if wanted and ids[i : i + len(wanted)] == wanted:
                yield from range(first + i, first + i + len(wanted))
