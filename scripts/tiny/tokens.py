"""Text as token ids, by the package's own tokenizer, and the text of each token."""

import gzip
from importlib.resources import files

from sdcli.tokenizer import BEGIN, framed, ids

LENGTH = 77


def encode(texts: list[str], length: int = LENGTH) -> list[list[int]]:
    """Token ids with begin and end, cut or padded to `length`."""
    return [framed(ids(text)[: length - 2])[:length] for text in texts]


def strings() -> list[str]:
    """The text of each of the 49,408 tokens, for the sentence encoder; nearly all are words or parts of words."""
    packed = (files("sdcli.checkpoints") / "bpe_simple_vocab_16e6.txt.gz").read_bytes()
    merges = gzip.decompress(packed).decode().split("\n")[1 : BEGIN - 512 + 1]
    letters = _letters()
    words = [*letters, *letters, *("".join(pair.split()).removesuffix("</w>") for pair in merges)]
    said = [bytes(letters[letter] for letter in word).decode("utf-8", "replace") for word in words]
    return [*said, "", ""]


def _letters() -> dict[str, int]:
    """GPT-2's printable letter for each byte -> the byte, in the order of the vocabulary."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(b): b for b in shown} | {chr(256 + i): b for i, b in enumerate(hidden)}
