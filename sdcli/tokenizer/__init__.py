"""Tokenizer: text -> CLIP's token ids, by the vocabulary in the package; needs neither torch nor transformers.

The vocabulary is OpenAI's `bpe_simple_vocab_16e6.txt.gz` (MIT), unchanged; the `tokenizers` library applies it. A model
may add words of its own, as textual inversion does. `tokenizer_folder` reads what a model folder says of them.
"""

from __future__ import annotations

import functools
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

BEGIN, END = 49406, 49407
BEGIN_WORD, END_WORD = "<|startoftext|>", "<|endoftext|>"
CHUNK = 75
"""Tokens of text in one pass of the text encoder; with BEGIN and END it reads 77."""

_MERGES = 49152 - 256 - 2  # pairs of tokens; CLIP uses only these first lines of the file
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True)
class AddedWord:
    """A text that a model adds to the vocabulary as one token, such as `<cat-toy>` of a textual inversion.

    The flags are those of the `tokenizers` library: `normalized` words are found in any case, `single_word` ones only
    between spaces or punctuation, and lstrip and rstrip take the spaces before or behind the word along.
    """

    text: str
    id: int
    normalized: bool = True
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False


@dataclass(frozen=True)
class Tokenizer:
    """How the texts for one text encoder become token ids: CLIP's vocabulary, the model's own words, the padding."""

    pad: int = END  # token id
    added: tuple[AddedWord, ...] = ()

    def ids(self, text: str) -> list[int]:
        """The token ids of a text of any length, without BEGIN and END."""
        return _backend(self.added).encode(text, add_special_tokens=False).ids

    def word(self, id: int) -> str:
        """The text that a token stands for, without the end of a word; � for bytes that are no whole character."""
        for added in self.added:
            if added.id == id:
                return added.text
        letters = _words().get(id, f"#{id}").removesuffix("</w>")
        known = _letters_to_bytes()
        return bytes(known.get(letter, ord("?")) for letter in letters).decode("utf-8", "replace")

    def chunks(self, text: str) -> list[list[int]]:
        """The token ids in chunks of at most 75, or one empty chunk for an empty text. No token is dropped."""
        tokens = self.ids(text)
        return [tokens[i : i + CHUNK] for i in range(0, len(tokens), CHUNK)] or [[]]


def ids(text: str) -> list[int]:
    """The token ids of a text in CLIP's own vocabulary."""
    return Tokenizer().ids(text)


def chunks(text: str) -> list[list[int]]:
    """The chunks of a text in CLIP's own vocabulary."""
    return Tokenizer().chunks(text)


def framed(chunk: Sequence[int], pad: int = END) -> list[int]:
    """A chunk as the text encoder takes it, 77 ids: BEGIN, the tokens, END, then `pad`."""
    return [BEGIN, *chunk, END, *[pad] * (CHUNK - len(chunk))]


@functools.cache
def merges() -> list[tuple[str, str]]:
    """CLIP's pairs of tokens that are joined, the most frequent first."""
    path = str(files("sdcli.tokenizer") / "bpe_simple_vocab_16e6.txt.gz")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = islice(file, 1, _MERGES + 1)  # the first is a comment
        tokens = " ".join(lines).split()  # two on each line
    return list(zip(tokens[::2], tokens[1::2], strict=True))


@functools.cache
def vocabulary() -> dict[str, int]:
    """CLIP's 49,408 tokens -> their ids; a token that ends a word ends in `</w>`."""
    letters = list(_bytes_to_letters().values())
    words = [*letters, *(letter + "</w>" for letter in letters), *map("".join, merges())]
    return {word: i for i, word in enumerate([*words, BEGIN_WORD, END_WORD])}


@functools.cache
def _words() -> dict[int, str]:
    return {id: word for word, id in vocabulary().items()}


@functools.cache
def _letters_to_bytes() -> dict[str, int]:
    return {letter: byte for byte, letter in _bytes_to_letters().items()}


@functools.cache
def _backend(added: tuple[AddedWord, ...]) -> Backend:
    from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers
    from tokenizers import Tokenizer as Backend

    vocab = vocabulary() | {word.text: word.id for word in added}  # there, an added word keeps the id it has
    tokenizer = Backend(
        models.BPE(vocab, merges(), end_of_word_suffix="</w>", unk_token=END_WORD, fuse_unk=False)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.add_special_tokens([BEGIN_WORD, END_WORD])
    tokenizer.add_tokens(
        [
            AddedToken(
                word.text,
                single_word=word.single_word,
                lstrip=word.lstrip,
                rstrip=word.rstrip,
                normalized=word.normalized,
            )
            for word in added
        ]
    )
    return tokenizer


def _bytes_to_letters() -> dict[int, str]:
    """GPT-2's printable letter for each byte, in the order of CLIP's vocabulary."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(rest)}
