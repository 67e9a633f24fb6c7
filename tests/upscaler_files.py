"""Upscaler files: small ESRGAN and Real-ESRGAN networks for tests, with random weights that follow from their names."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from tests.adapter_files import values

Arrays = dict[str, np.ndarray]


def _convolution(name: str, inputs: int, outputs: int) -> Arrays:
    return {
        f"{name}.weight": values(f"{name}.weight", (outputs, inputs, 3, 3), 1 / math.sqrt(9 * inputs)),
        f"{name}.bias": values(f"{name}.bias", (outputs,), 0.05),
    }


def rrdb(blocks: int = 2, width: int = 8, growth: int = 4, upconvs: int = 2, unshuffle: int = 1) -> Arrays:
    """The tensors of an RRDBNet by Real-ESRGAN's names."""
    tensors = _convolution("conv_first", 3 * unshuffle**2, width)
    for block in range(blocks):
        for dense in (1, 2, 3):
            for i in range(1, 6):
                outputs = width if i == 5 else growth
                tensors |= _convolution(f"body.{block}.rdb{dense}.conv{i}", width + (i - 1) * growth, outputs)
    for name in ("conv_body", *(f"conv_up{i + 1}" for i in range(upconvs)), "conv_hr"):
        tensors |= _convolution(name, width, width)
    return tensors | _convolution("conv_last", width, 3)


def compact(blocks: int = 2, width: int = 8, scale: int = 4) -> Arrays:
    """The tensors of an SRVGGNetCompact."""
    tensors: Arrays = {}
    for i in range(blocks + 1):
        tensors |= _convolution(f"body.{2 * i}", width if i else 3, width)
        tensors[f"body.{2 * i + 1}.weight"] = values(f"prelu{i}", (width,), 0.1, 0.2)
    return tensors | _convolution(f"body.{2 * blocks + 2}", width, 3 * scale**2)


def _linear(name: str, inputs: int, outputs: int) -> Arrays:
    return {
        f"{name}.weight": values(f"{name}.weight", (outputs, inputs), 1 / math.sqrt(inputs)),
        f"{name}.bias": values(f"{name}.bias", (outputs,), 0.05),
    }


def _norm(name: str, width: int) -> Arrays:
    return {
        f"{name}.weight": values(f"{name}.weight", (width,), 0.2, 1.0),
        f"{name}.bias": values(f"{name}.bias", (width,), 0.05),
    }


def _after(name: str, width: int, three: bool) -> Arrays:
    if not three:
        return _convolution(name, width, width)
    narrow, middle = width // 4, values(f"{name}.2.weight", (width // 4, width // 4, 1, 1), 0.5)
    tensors = _convolution(f"{name}.0", width, narrow) | _convolution(f"{name}.4", narrow, width)
    return tensors | {f"{name}.2.weight": middle, f"{name}.2.bias": values(f"{name}.2.bias", (narrow,), 0.05)}


def swinir(
    upsampler: str = "nearest+conv",
    scale: int = 4,
    depths: tuple[int, ...] = (2, 2),
    width: int = 8,
    heads: int = 2,
    window: int = 8,
    three: bool = False,
    features: int = 6,
) -> Arrays:
    """The tensors of a SwinIR with one of its ends, by the names that all its files have."""
    tensors = _convolution("conv_first", 3, width) | _norm("patch_embed.norm", width) | _norm("norm", width)
    for layer, depth in enumerate(depths):
        for block in range(depth):
            name = f"layers.{layer}.residual_group.blocks.{block}"
            tensors |= _norm(f"{name}.norm1", width) | _norm(f"{name}.norm2", width)
            table = f"{name}.attn.relative_position_bias_table"
            tensors[table] = values(table, ((2 * window - 1) ** 2, heads), 1.0)
            tensors |= _linear(f"{name}.attn.qkv", width, 3 * width) | _linear(
                f"{name}.attn.proj", width, width
            )
            tensors |= _linear(f"{name}.mlp.fc1", width, 2 * width) | _linear(
                f"{name}.mlp.fc2", 2 * width, width
            )
        tensors |= _after(f"layers.{layer}.conv", width, three)
    tensors |= _after("conv_after_body", width, three)
    if upsampler == "pixelshuffledirect":
        return tensors | _convolution("upsample.0", width, 3 * scale**2)
    if not upsampler:
        return tensors | _convolution("conv_last", width, 3)
    tensors |= _convolution("conv_before_upsample.0", width, features)
    doublings = range(int(math.log2(scale)))
    if upsampler == "nearest+conv":
        for name in (*(f"conv_up{i + 1}" for i in doublings), "conv_hr"):
            tensors |= _convolution(name, features, features)
    elif scale == 3:
        tensors |= _convolution("upsample.0", features, 9 * features)
    else:
        for i in doublings:
            tensors |= _convolution(f"upsample.{2 * i}", features, 4 * features)
    return tensors | _convolution("conv_last", features, 3)


SWINIRS = {
    "swinir_classical_x2": swinir("pixelshuffle", 2),
    "swinir_classical_x3": swinir("pixelshuffle", 3),
    "swinir_classical_x4": swinir("pixelshuffle", 4),
    "swinir_lightweight_x3": swinir("pixelshuffledirect", 3),
    "swinir_real_x2": swinir("nearest+conv", 2),
    "swinir_real_x4": swinir("nearest+conv", 4, depths=(4, 2), three=True),
    "swinir_denoise_x1": swinir("", 1),
    "swinir_jpeg_x1": swinir("", 1, window=7),
}
"""A small network with each of SwinIR's ends."""


def as_old(tensors: Mapping[str, np.ndarray]) -> Arrays:
    """The same RRDBNet by the names of the first ESRGAN, which number the layers through."""
    blocks = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("body."))
    upconvs = sum(bool(re.fullmatch(r"conv_up\d\.weight", name)) for name in tensors)
    layers = {"conv_first": "model.0", "conv_body": f"model.1.sub.{blocks}"}
    layers |= {f"conv_up{i}": f"model.{3 * i}" for i in range(1, upconvs + 1)}
    layers |= {"conv_hr": f"model.{3 * upconvs + 2}", "conv_last": f"model.{3 * upconvs + 4}"}
    renamed = {}
    for name, tensor in tensors.items():
        module, _, last = name.rpartition(".")
        if match := re.fullmatch(r"body\.(\d+)\.rdb(\d)\.(conv\d)", module):
            layers[module] = f"model.1.sub.{match[1]}.RDB{match[2]}.{match[3]}.0"
        renamed[f"{layers[module]}.{last}"] = tensor
    return renamed


def as_trunk(tensors: Mapping[str, np.ndarray]) -> Arrays:
    """The same RRDBNet by the names of the second ESRGAN code, which BSRGAN has too."""
    swaps = (
        (r"^body\.(\d+)\.rdb", r"RRDB_trunk.\1.RDB"),
        ("^conv_body", "trunk_conv"),
        ("^conv_up", "upconv"),
        ("^conv_hr", "HRconv"),
    )
    renamed = {}
    for name, tensor in tensors.items():
        for old, new in swaps:
            name = re.sub(old, new, name)
        renamed[name] = tensor
    return renamed


def nearest(scale: int) -> Arrays:
    """A compact network that adds nothing to the nearest enlargement."""
    return {name: np.zeros_like(tensor) for name, tensor in compact(blocks=1, width=4, scale=scale).items()}


def write(path: Path, tensors: Mapping[str, np.ndarray]) -> Path:
    """The tensors as a safetensors file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, path)
    return path
