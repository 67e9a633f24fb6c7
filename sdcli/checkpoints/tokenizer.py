"""Tokenizer: text -> CLIP's token ids, by the vocabulary in the package; needs neither torch nor transformers.

The vocabulary is OpenAI's `bpe_simple_vocab_16e6.txt.gz` (MIT), unchanged; the `tokenizers` library applies it.
"""

from __future__ import annotations

import functools
import gzip
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BEGIN, END = 49406, 49407
CHUNK = 75
"""Tokens of text in one pass of the text encoder; with BEGIN and END it reads 77."""

_MERGES = 49152 - 256 - 2  # pairs of tokens; CLIP uses only these first lines of the file
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


def ids(text: str) -> list[int]:
    """The token ids of a text of any length, without BEGIN and END."""
    return _tokenizer().encode(text, add_special_tokens=False).ids


def chunks(text: str) -> list[list[int]]:
    """The token ids in chunks of at most 75, or one empty chunk for an empty text. No token is dropped."""
    tokens = ids(text)
    return [tokens[i : i + CHUNK] for i in range(0, len(tokens), CHUNK)] or [[]]


def framed(chunk: Sequence[int], pad: int = END) -> list[int]:
    """A chunk as the text encoder takes it, 77 ids: BEGIN, the tokens, END, then `pad`."""
    return [BEGIN, *chunk, END, *[pad] * (CHUNK - len(chunk))]


def folder_files(pad: int = END) -> dict[str, bytes]:
    """The files of a tokenizer folder, by name, from which transformers loads the same tokenizer."""
    model = json.loads(_tokenizer().to_str())["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    words = {number: word for word, number in model["vocab"].items()}
    special = {
        "bos_token": words[BEGIN],
        "eos_token": words[END],
        "unk_token": words[END],
        "pad_token": words[pad],
    }
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": CHUNK + 2, **special}
    return {
        "merges.txt": "\n".join(["#version: 0.2", *merges, ""]).encode(),
        "special_tokens_map.json": json.dumps(special, indent=2, sort_keys=True).encode(),
        "tokenizer_config.json": json.dumps(config, indent=2, sort_keys=True).encode(),
        "vocab.json": json.dumps(model["vocab"], ensure_ascii=False).encode(),
    }


@functools.cache
def _tokenizer() -> Tokenizer:
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    path = str(files("sdcli.checkpoints") / "bpe_simple_vocab_16e6.txt.gz")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1 : _MERGES + 1]  # the first is a comment
    merges = [(first, second) for first, second in map(str.split, lines)]
    letters = list(_bytes_to_letters().values())
    words = [*letters, *(letter + "</w>" for letter in letters), *map("".join, merges)]
    vocab = {word: i for i, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    tokenizer = Tokenizer(
        models.BPE(vocab, merges, end_of_word_suffix="</w>", unk_token="<|endoftext|>", fuse_unk=False)
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
    tokenizer.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    return tokenizer


def _bytes_to_letters() -> dict[int, str]:
    """GPT-2's printable letter for each byte, in the order of CLIP's vocabulary."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(rest)}
