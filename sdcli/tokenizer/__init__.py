"""Tokenizer: text -> CLIP's token ids, by the vocabulary in the package; needs neither torch nor transformers.

The vocabulary is OpenAI's `bpe_simple_vocab_16e6.txt.gz` (MIT), unchanged; `bpe` applies it to plain texts, and the
`tokenizers` library to all others. A model may add words of its own, as textual inversion does. `tokenizer_folder`
reads what a model folder says of them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sdcli.tokenizer import bpe

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

BEGIN, END = 49406, 49407
BEGIN_WORD, END_WORD = "<|startoftext|>", "<|endoftext|>"
CHUNK = 75
"""Tokens of text in one pass of the text encoder; with BEGIN and END it reads 77."""

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
        if not self.added and bpe.is_plain(text):
            return bpe.plain_ids(text)
        return _backend(self.added).encode(text, add_special_tokens=False).ids

    def word(self, id: int) -> str:
        """The text that a token stands for, without the end of a word; � for bytes that are no whole character."""
        for added in self.added:
            if added.id == id:
                return added.text
        special = {BEGIN: BEGIN_WORD, END: END_WORD}.get(id)
        letters = (special or bpe.token(id) or f"#{id}").removesuffix("</w>")
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


def merges() -> list[tuple[str, str]]:
    """CLIP's pairs of tokens that are joined, the most frequent first."""
    return [(left, right) for left, right in map(str.split, bpe.pairs())]


@functools.cache
def vocabulary() -> dict[str, int]:
    """CLIP's 49,408 tokens -> their ids; a token that ends a word ends in `</w>`."""
    words = [*bpe.single_tokens(), *(pair.replace(" ", "") for pair in bpe.pairs()), BEGIN_WORD, END_WORD]
    return {word: id for id, word in enumerate(words)}


@functools.cache
def _letters_to_bytes() -> dict[str, int]:
    return {letter: byte for byte, letter in bpe.letters().items()}


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
