"""Adapter files: hypernetworks and IP-Adapters for tests, whose values follow from their names."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file


def values(name: str, shape: Sequence[int], scale: float, offset: float = 0.0) -> np.ndarray:
    """Normally distributed values from a generator seeded with the name, rounded to float16, as float32."""
    drawn = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))).standard_normal(
        size=tuple(shape), dtype=np.float32
    )
    return (drawn * np.float32(scale) + np.float32(offset)).astype(np.float16).astype(np.float32)


def hypernet(
    path: Path,
    widths: Sequence[int],
    structure: Sequence[float] = (1, 2, 1),
    activation: str = "relu",
    layer_norm: bool = False,
    activate_output: bool = False,
    dropout: Sequence[float] = (),
    **metadata: Any,
) -> Path:
    """A hypernetwork. `dropout` is a share for each layer of the structure, which only moves the layers' numbers."""
    dropout = dropout or [0] * len(structure)
    tensors = {}
    for width in widths:
        for half in (0, 1):
            number = 0
            for i in range(len(structure) - 1):
                inputs, outputs = int(width * structure[i]), int(width * structure[i + 1])
                last = i == len(structure) - 2
                layers = [("linear", [outputs, inputs], (0.3 if last else 1) / math.sqrt(inputs), 0.0)]
                if activation != "linear" and (not last or activate_output):
                    layers.append(("activation", [], 0, 0))
                if layer_norm:
                    layers.append(("norm", [outputs], 0.1, 1.0))
                for kind, shape, scale, offset in layers:
                    if kind != "activation":
                        name = f"{width}.{half}.linear.{number}"
                        tensors[f"{name}.weight"] = values(f"hyper.{name}.weight", shape, scale, offset)
                        tensors[f"{name}.bias"] = values(f"hyper.{name}.bias", [outputs], 0.05)
                    number += 1
                number += dropout[i + 1] > 0
    told = {
        "layer_structure": list(structure),
        "activation_func": activation,
        "is_layer_norm": layer_norm,
        "activate_output": activate_output,
        "dropout_structure": list(dropout),
        "name": path.stem,
        "step": 1000,
    }
    return write(path, tensors, {key: json.dumps(value) for key, value in (told | metadata).items()})


def write(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> Path:
    """A safetensors file with these tensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), str(path), dict(metadata or {}))
    return path
