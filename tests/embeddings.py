"""Embeddings: files of textual inversions for tests, in the forms that tools write."""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path

Shape = Sequence[int]


def write(path: Path, tensors: Mapping[str, tuple[Shape, Sequence[float]]], dtype: str = "F32") -> Path:
    """A safetensors file with these tensors, name -> (shape, values), as 32-bit floats whatever it says they are."""
    described, data = {}, b""
    for name, (shape, values) in tensors.items():
        own = array("f", values).tobytes()
        described[name] = {
            "dtype": dtype,
            "shape": list(shape),
            "data_offsets": [len(data), len(data) + len(own)],
        }
        data += own
    text = json.dumps(described).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def a1111(path: Path, vectors: int = 2, width: int = 768, value: float = 0.5) -> Path:
    """An embedding as A1111 and kohya write it."""
    return write(path, {"emb_params": ((vectors, width), [value] * (vectors * width))})


def pair(path: Path, vectors: int = 2, widths: tuple[int, int] = (768, 1280)) -> Path:
    """An embedding for the two text encoders of SDXL."""
    parts = zip(("clip_g", "clip_l"), reversed(widths), strict=True)
    return write(path, {part: ((vectors, width), [0.25] * (vectors * width)) for part, width in parts})
