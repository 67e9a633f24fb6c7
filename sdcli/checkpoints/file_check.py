"""File check: whether a safetensors file is whole, finite, and has the hash that was recorded; read once, in pieces."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sdcli.checkpoints import header
from sdcli.checkpoints.header import LENGTH_BYTES, WIDTHS, Entry
from sdcli.errors import ModelError

PIECE = 1 << 24  # bytes that are held at a time; a multiple of every width

EXPONENTS = {
    "F64": ("<u8", 0x7FF0000000000000),
    "F32": ("<u4", 0x7F800000),
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
    "F8_E5M2": ("u1", 0x7C),
    "F8_E4M3": ("u1", 0x7F),
}
"""dtype -> (numpy's dtype of its bits, the bits that are all set in a value that is infinite or no number).

They are those of the exponent (IEEE 754); E4M3 has no infinity, and NaN alone has all its bits set.
"""

RECORDED = ("sshs_model_hash", "modelspec.hash_sha256")
"""Metadata with a sha256 of the tensors' bytes, which is Civitai's AutoV3: kohya's, and ModelSpec's."""


@dataclass(frozen=True)
class Checked:
    """What was found in a file. `recorded` is, by where it is recorded, whether a hash is that of the file."""

    path: Path
    tensors: int
    values: int
    sha256: str
    autov3: str  # of the tensors' bytes alone
    not_finite: Mapping[str, int]  # tensor -> how many values
    recorded: Mapping[str, bool]

    @property
    def is_good(self) -> bool:
        """True if every value is finite and every recorded hash is the file's."""
        return not self.not_finite and all(self.recorded.values())


def check(path: Path) -> Checked:
    """Read a file and check it; raises ModelError if its header is wrong, or if it cannot be read."""
    head = header.read(path)
    whole, body = hashlib.sha256(), hashlib.sha256()
    not_finite: dict[str, int] = {}
    try:
        with open(path, "rb") as file:
            length = file.read(LENGTH_BYTES)
            whole.update(length)
            whole.update(file.read(int.from_bytes(length, "little")))
            for entry in sorted(head.tensors.values(), key=lambda entry: (entry.start, entry.end)):
                for piece in _pieces(file.read, entry):
                    whole.update(piece)
                    body.update(piece)
                    if count := _count_not_finite(entry.dtype, piece):
                        not_finite[entry.name] = not_finite.get(entry.name, 0) + count
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {(error.strerror or 'unknown reason').lower()}") from None
    values = sum((entry.end - entry.start) // WIDTHS[entry.dtype] for entry in head.tensors.values())
    recorded = _recorded(path, head.metadata, whole.hexdigest(), body.hexdigest())
    return Checked(path, len(head.tensors), values, whole.hexdigest(), body.hexdigest(), not_finite, recorded)


def _pieces(read: object, entry: Entry) -> Iterator[bytes]:
    left = entry.end - entry.start
    while left:
        piece: bytes = read(min(left, PIECE))  # type: ignore[operator]
        if not piece:
            raise ModelError(f"{entry.path}: became shorter while it was read; try again")
        left -= len(piece)
        yield piece


def _count_not_finite(dtype: str, piece: bytes) -> int:
    import numpy as np

    if dtype not in EXPONENTS:
        return 0
    bits, mask = EXPONENTS[dtype]
    values = np.frombuffer(piece, bits)
    return int(np.count_nonzero((values & values.dtype.type(mask)) == mask))


def _recorded(path: Path, metadata: Mapping[str, str], sha256: str, autov3: str) -> dict[str, bool]:
    """Where a hash of the file is recorded -> whether it is the file's: metadata, and the name in the hub's cache."""
    found = {}
    for key in RECORDED:
        text = metadata.get(key, "").strip().lower().removeprefix("0x")
        if text:
            found[key] = text in (autov3, autov3[:12], sha256)
    real = path.resolve()
    if real.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", real.name):
        found["the hub's cache"] = real.name == sha256
    return found
