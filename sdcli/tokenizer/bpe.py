"""BPE: CLIP's table of byte pairs, and the ids of plain texts, which need no library.

Most prompts are ASCII, and the `tokenizers` library takes 0.1 seconds to read the table. It is left the texts in which
its tables of Unicode, or words as one token, matter; the tests compare the ids of both.
"""

from __future__ import annotations

import functools
import itertools
import re
import zlib
from pathlib import Path

_FILE = "bpe_simple_vocab_16e6.txt.gz"
_PAIRS = 49152 - 256 - 2  # CLIP uses only these first lines of the file, which follow a comment
_SIZE = 525_000  # bytes of text that hold them; the file has 3,194,984
_GZIP = 16 + zlib.MAX_WBITS  # the format that zlib is told to expect
_SINGLE = 2 * 256  # the first ids are single bytes, then single bytes that end a word
_WORD_END = "</w>"
_WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^\sa-z0-9]+", re.ASCII)
_LONG_WORD = re.compile(r"\S{50}")  # the time that a word takes grows with the square of its length


@functools.cache
def pairs() -> list[str]:
    """CLIP's pairs of tokens that are joined, such as `re d</w>`, the most frequent first."""
    packed = Path(__file__).with_name(_FILE).read_bytes()
    text = (
        zlib.decompressobj(_GZIP).decompress(packed, _SIZE).decode("utf-8", "ignore")
    )  # may end within a letter
    return text.split("\n")[1 : _PAIRS + 1]


@functools.cache
def letters() -> dict[int, str]:
    """GPT-2's printable letter for each byte, in the order of CLIP's vocabulary."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(rest)}


@functools.cache
def single_tokens() -> list[str]:
    """The tokens of single bytes, and of single bytes that end a word, in the order of their ids."""
    single = list(letters().values())
    return [*single, *(letter + _WORD_END for letter in single)]


def token(id: int) -> str | None:
    """The text of a token, in the letters of its bytes, `</w>` where it ends a word; None for another id."""
    if 0 <= id < _SINGLE:
        return single_tokens()[id]
    return pairs()[id - _SINGLE].replace(" ", "") if _SINGLE <= id < _SINGLE + _PAIRS else None


def is_plain(text: str) -> bool:
    """True for a text that `plain_ids` reads: ASCII, without CLIP's special tokens and without very long words."""
    return text.isascii() and "<|" not in text and _LONG_WORD.search(text) is None


def plain_ids(text: str) -> list[int]:
    """The token ids of a plain text."""
    return [id for word in _WORDS.findall(text.lower()) for id in _word_ids(word)]


@functools.lru_cache(maxsize=10_000)
def _word_ids(word: str) -> tuple[int, ...]:
    """The token ids of a word: the most frequent pair in it is joined, the first of several, until there is none."""
    tokens = [letters()[byte] for byte in word.encode("ascii")]
    tokens[-1] += _WORD_END
    ids = [single_tokens().index(token) for token in tokens]
    places = _places()
    while len(ids) > 1:
        found = [places.get(f"{left} {right}", _PAIRS) for left, right in itertools.pairwise(tokens)]
        place = min(found)
        if place == _PAIRS:
            break
        i = found.index(place)
        tokens[i : i + 2] = [tokens[i] + tokens[i + 1]]
        ids[i : i + 2] = [_SINGLE + place]
    return tuple(ids)


@functools.cache
def _places() -> dict[str, int]:
    """Each pair -> its place in the table."""
    return dict(zip(pairs(), range(_PAIRS), strict=True))
