"""SwinIR's network in upscaler files, with any of its four ends; https://arxiv.org/abs/2108.10257."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from sdcli.checkpoints.component import Component
from sdcli.checkpoints.upscalers.network import (
    COLOURS,
    Shapes,
    UpscalerNetwork,
    check_size,
    convolution,
    numbers,
    sides,
)
from sdcli.errors import ModelError

BIASES = "layers.0.residual_group.blocks.0.attn.relative_position_bias_table"
"""The tensor by which a SwinIR is known."""
BUFFERS = re.compile(
    r"layers\.\d{1,3}\.residual_group\.blocks\.\d{1,3}\.(attn\.relative_position_index|attn_mask)", re.ASCII
)
"""Tensors that follow from the sizes of the others, and so are not read."""
_LAYER = re.compile(r"layers\.(\d{1,3})\.residual_group\.blocks\.0\.norm1\.weight", re.ASCII)
_UPCONV = re.compile(r"conv_up([1-9])\.weight", re.ASCII)
_SHUFFLE = re.compile(r"upsample\.(\d)\.weight", re.ASCII)
MAX_WINDOW = 16


def swinir(path: Path, component: Component) -> UpscalerNetwork:
    """The SwinIR of a file; raises ModelError for shapes that none has."""
    names = component.sources
    layers = 1 + max(numbers(_LAYER, names), default=-1)
    depths = tuple(_depth(names, layer) for layer in range(layers))
    if not all(depths):
        raise ModelError(f"{path}: a SwinIR upscaler without the layers of one of its blocks; fetch it again")
    tables = [component.shape(_table(layer)) for layer in range(layers) if _table(layer) in names]
    if len(tables) < layers or any(len(table) != 2 or 0 in table for table in tables):
        raise ModelError(
            f"{path}: a SwinIR upscaler without the position biases of each block; fetch it again"
        )
    width, inputs = sides(path, component, "conv_first.weight")
    if inputs != COLOURS:
        raise ModelError(f"{path}: its network takes {inputs} channels; known is 3, of colour")
    window, heads = (math.isqrt(tables[0][0]) + 1) // 2, tuple(table[1] for table in tables)
    if not 2 <= window <= MAX_WINDOW or any(width % each for each in heads):
        raise ModelError(
            f"{path}: windows of {window} pixels or heads {heads} are no SwinIR's; fetch it again"
        )
    fc1 = "layers.0.residual_group.blocks.0.mlp.fc1.bias"
    hidden = math.prod(component.shape(fc1)) if fc1 in names else 0
    upsampler, scale, features = _end(path, component)
    check_size(path, sum(depths), width, hidden, features)
    three = "conv_after_body.0.weight" in names
    shapes = _body_shapes(depths, heads, width, window, hidden, three)
    shapes |= _end_shapes(upsampler, scale, features, width)
    settings = {
        "depths": depths,
        "heads": heads,
        "width": width,
        "window": window,
        "hidden": hidden,
        "upsampler": upsampler,
        "scale": scale,
        "features": features,
        "three_convs": three,
    }
    return UpscalerNetwork(sum(depths), width, scale, settings, shapes, grid=window)


def _depth(names: Mapping[str, object], layer: int) -> int:
    pattern = re.compile(rf"layers\.{layer}\.residual_group\.blocks\.(\d{{1,3}})\.norm1\.weight", re.ASCII)
    return 1 + max(numbers(pattern, names), default=-1)


def _table(layer: int) -> str:
    return BIASES.replace("layers.0.", f"layers.{layer}.", 1)


def _end(path: Path, component: Component) -> tuple[str, int, int]:
    """(upsampler, scale, channels while the picture is enlarged) by the tensors behind the blocks."""
    names = component.sources
    if "conv_before_upsample.0.weight" in names:
        features, _ = sides(path, component, "conv_before_upsample.0.weight")
        if upconvs := numbers(_UPCONV, names):
            upsampler, scale = "nearest+conv", 2 ** max(upconvs)
        else:
            upsampler, scale = "pixelshuffle", _shuffled(path, component, features)
    elif "upsample.0.weight" in names:
        outputs, features = sides(path, component, "upsample.0.weight")
        upsampler, scale = "pixelshuffledirect", math.isqrt(outputs // COLOURS)
    else:
        upsampler, scale, features = "", 1, 0
    if upsampler and scale not in (2, 3, 4, 8):
        raise ModelError(f"{path}: its network enlarges {scale} times; known are 2, 3, 4 and 8")
    return upsampler, scale, features


def _shuffled(path: Path, component: Component, features: int) -> int:
    convolutions = numbers(_SHUFFLE, component.sources)
    if "upsample.0.weight" not in component.sources:
        return 1
    outputs, _ = sides(path, component, "upsample.0.weight")
    return 3 if outputs == 9 * features else int(2 ** len(convolutions))


# --- the tensors it must have


def _body_shapes(
    depths: Sequence[int], heads: Sequence[int], width: int, window: int, hidden: int, three: bool
) -> Shapes:
    shapes = convolution("conv_first", COLOURS, width) | _vectors("patch_embed.norm", width)
    for layer, (depth, number) in enumerate(zip(depths, heads, strict=True)):
        for block in range(depth):
            name = f"layers.{layer}.residual_group.blocks.{block}"
            shapes |= _vectors(f"{name}.norm1", width) | _vectors(f"{name}.norm2", width)
            shapes[f"{name}.attn.relative_position_bias_table"] = ((2 * window - 1) ** 2, number)
            shapes |= _linear(f"{name}.attn.qkv", width, 3 * width) | _linear(
                f"{name}.attn.proj", width, width
            )
            shapes |= _linear(f"{name}.mlp.fc1", width, hidden) | _linear(f"{name}.mlp.fc2", hidden, width)
        shapes |= _after(f"layers.{layer}.conv", width, three)
    return shapes | _vectors("norm", width) | _after("conv_after_body", width, three)


def _end_shapes(upsampler: str, scale: int, features: int, width: int) -> Shapes:
    if upsampler == "pixelshuffledirect":
        return convolution("upsample.0", width, COLOURS * scale**2)
    if not upsampler:
        return convolution("conv_last", width, COLOURS)
    shapes = convolution("conv_before_upsample.0", width, features)
    doublings = range(scale.bit_length() - 1)
    if upsampler == "nearest+conv":
        for name in (*(f"conv_up{i + 1}" for i in doublings), "conv_hr"):
            shapes |= convolution(name, features, features)
    elif scale == 3:
        shapes |= convolution("upsample.0", features, 9 * features)
    else:
        for i in doublings:
            shapes |= convolution(f"upsample.{2 * i}", features, 4 * features)
    return shapes | convolution("conv_last", features, COLOURS)


def _after(name: str, width: int, three: bool) -> Shapes:
    if not three:
        return convolution(name, width, width)
    narrow = width // 4
    return (
        convolution(f"{name}.0", width, narrow)
        | convolution(f"{name}.2", narrow, narrow, 1)
        | convolution(f"{name}.4", narrow, width)
    )


def _vectors(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
