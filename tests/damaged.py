"""Damaged: copies of a safetensors file with faults, of which most are in its header."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator


def damaged(data: bytes, seed: int, count: int) -> Iterator[bytes]:
    """Copies of a file with bytes replaced, bits flipped, pieces deleted, inserted or doubled; mostly in the header."""
    draw = random.Random(seed)
    length = 8 + struct.unpack("<Q", data[:8])[0]
    pieces = [
        b"0",
        b"9",
        b"-",
        b"e9",
        b'"',
        b"[",
        b"}",
        b"null",
        b"1e99",
        b"\\u0000",
        b"F16",
        b"I32",
        b"\xff",
        b"NaN",
    ]
    for _ in range(count):
        mutant = bytearray(data)
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(length if draw.random() < 0.8 else len(data)) % max(1, len(mutant))
            kind = draw.randrange(6)
            size = draw.choice([1, 1, 2, 8, 64])
            if kind == 0:
                mutant[at : at + 1] = bytes([draw.randrange(256)])
            elif kind == 1:
                del mutant[at : at + size]
            elif kind == 2:
                mutant[at:at] = draw.choice(pieces)
            elif kind == 3:
                mutant[at : at + 1] = bytes([(mutant[at : at + 1] or b"\0")[0] ^ 1 << draw.randrange(8)])
            elif kind == 4:
                mutant[at:at] = mutant[at : at + size]
            else:
                mutant[at : at + 4] = draw.choice(
                    [b"\x00\x00\x80\x7f", b"\x00\x00\xc0\x7f", b"\xff\xff\xff\xff"]
                )
        yield bytes(mutant)
