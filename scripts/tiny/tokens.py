"""CLIP's tokenizer, from the open_clip vocabulary: text -> 77 ids, padded with the end token."""

import gzip
import zipfile
from functools import cache

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

import recipe

WHEEL = recipe.DATA / "pypi" / "open_clip_torch-3.3.0-py3-none-any.whl"
START, END, LENGTH = 49406, 49407, 77
WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@cache
def tokenizer() -> Tokenizer:
    with zipfile.ZipFile(WHEEL) as wheel:
        lines = gzip.decompress(wheel.read("open_clip/bpe_simple_vocab_16e6.txt.gz")).decode().split("\n")
    merges = [tuple(line.split()) for line in lines[1 : 49152 - 256 - 2 + 1]]
    alphabet = _byte_letters()
    words = alphabet + [letter + "</w>" for letter in alphabet] + ["".join(pair) for pair in merges]
    words += ["<|startoftext|>", "<|endoftext|>"]
    made = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, merges, end_of_word_suffix="</w>"))
    made.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return made


def encode(texts: list[str], length: int = LENGTH) -> list[list[int]]:
    """Token ids with start and end, cut or padded to `length`."""
    out = []
    for encoding in tokenizer().encode_batch(texts):
        ids = [START, *encoding.ids[: length - 2], END]
        out.append(ids + [END] * (length - len(ids)))
    return out


def strings() -> list[str]:
    """What each of the 49,408 tokens says, for the sentence encoder; nearly all are words or parts of words."""
    vocabulary = sorted(tokenizer().get_vocab().items(), key=lambda item: item[1])
    back = {letter: byte for byte, letter in _byte_pairs()}
    return [
        bytes(back.get(c, 63) for c in word.removesuffix("</w>")).decode("utf-8", "replace")
        if i < START
        else ""
        for word, i in vocabulary
    ]


def _byte_pairs() -> list[tuple[int, str]]:
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return [(byte, chr(byte)) for byte in shown] + [(byte, chr(256 + i)) for i, byte in enumerate(hidden)]


def _byte_letters() -> list[str]:
    return [letter for _, letter in _byte_pairs()]
