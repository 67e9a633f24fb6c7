"""Full size: checkpoints in the published layout, written tensor by tensor, whose weights follow from their names."""

import json
import math
import struct
import zlib
from pathlib import Path

import numpy as np

GAINS = {  # part of a name -> factor on the variance
    "to_q": 2,
    "to_k": 2,
    "q_proj": 2,
    "k_proj": 2,
    "q": 2,
    "k": 2,
    "time_embed": 4,
    "emb_layers": 4,
    "label_emb": 4,
}


def scale(name: str, shape: list[int]) -> tuple[float, float]:
    """(mean, standard deviation) of a tensor's values, by which activations keep their size through the networks."""
    leaf = name.rsplit(".", 1)[-1]
    if leaf in ("bias", "in_proj_bias"):
        return 0.0, 0.1
    if leaf == "weight" and len(shape) == 1:
        return 1.0, 0.1
    if name.endswith("token_embedding.weight"):
        return 0.0, 1.0
    if name.endswith("position_embedding.weight") or leaf == "positional_embedding":
        return 0.0, 0.5
    if leaf == "text_projection":
        return 0.0, 1 / math.sqrt(shape[0])
    gain = 1.5 if leaf == "in_proj_weight" else 1.0
    gain = next((GAINS[part] for part in name.split(".") if part in GAINS), gain)
    gain = 2 if name.endswith("diffusion_model.out.2.weight") else gain
    return 0.0, math.sqrt(gain / math.prod(shape[1:]))


def values(name: str, shape: list[int]) -> np.ndarray:
    """A tensor's values: normally distributed, from a generator seeded with its name, rounded to float16."""
    mean, deviation = scale(name, shape)
    drawn = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))).standard_normal(
        shape, dtype=np.float32
    )
    return (drawn * np.float32(deviation) + np.float32(mean)).astype(np.float16)


def normal(seed: int, *shape: int) -> np.ndarray:
    """Normally distributed inputs, for which the answers are stored."""
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(shape, dtype=np.float32)


def picture() -> np.ndarray:
    """A picture (1, 3, 256, 256) in -1 … 1, for which the answers are stored: waves with some noise."""
    x = np.linspace(-1, 1, 256, dtype=np.float32)
    y = x[:, None]
    waves = [np.sin(4 * x + 2 * y), np.cos(5 * x * y), x * y + np.sin(20 * x) / 2]
    return np.clip(0.7 * np.stack(waves) + 0.1 * normal(4001, 1, 3, 256, 256), -1, 1)


def write(path: Path, tensors: dict[str, list[int]]) -> Path:
    """Write a float16 file, sorted by name. The header is not padded, so the data may begin at an odd byte."""
    # scalars and the noise schedule's tables of 1000 values are left out
    kept = {name: shape for name, shape in sorted(tensors.items()) if len(shape) > 0 and shape != [1000]}
    header, start = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in kept.items():
        end = start + 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in kept.items():
            file.write(values(name, shape).tobytes())
    return path
