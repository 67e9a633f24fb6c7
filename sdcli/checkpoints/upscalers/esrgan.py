"""ESRGAN's networks in upscaler files: RRDBNet and Real-ESRGAN's compact one."""

from __future__ import annotations

import math
import re
from pathlib import Path

from sdcli.checkpoints.component import Component
from sdcli.checkpoints.upscalers.network import (
    COLOURS,
    MAX_FACTOR,
    Shapes,
    UpscalerNetwork,
    check_size,
    convolution,
    numbers,
    sides,
)
from sdcli.errors import ModelError

RRDB_BLOCK = re.compile(r"body\.(\d{1,3})\.rdb1\.conv1\.weight", re.ASCII)
_COMPACT_LAYER = re.compile(r"body\.(\d{1,3})\.weight", re.ASCII)
_UPCONV = re.compile(r"conv_up([1-9])\.weight", re.ASCII)


def rrdb(path: Path, component: Component) -> UpscalerNetwork:
    """The RRDBNet of a file; raises ModelError for shapes that none has."""
    names = component.sources
    blocks = 1 + max(numbers(RRDB_BLOCK, names))
    upconvs = max(numbers(_UPCONV, names), default=0)
    width, inputs = sides(path, component, "conv_first.weight")
    growth, _ = sides(path, component, f"body.{blocks - 1}.rdb1.conv1.weight")
    unshuffle = math.isqrt(inputs // COLOURS)
    if inputs != COLOURS * unshuffle**2 or unshuffle not in (1, 2, 4):
        raise ModelError(f"{path}: its network takes {inputs} channels; known are 3, 12 and 48")
    factor = 2**upconvs
    if factor > MAX_FACTOR or factor % unshuffle:
        raise ModelError(f"{path}: its network enlarges by {factor}/{unshuffle}; known are 1, 2, 4, 8 and 16")
    check_size(path, blocks, width, growth)
    settings = {
        "blocks": blocks,
        "width": width,
        "growth": growth,
        "upconvs": upconvs,
        "unshuffle": unshuffle,
    }
    return UpscalerNetwork(blocks, width, factor // unshuffle, settings, _rrdb_shapes(**settings), unshuffle)


def _rrdb_shapes(blocks: int, width: int, growth: int, upconvs: int, unshuffle: int) -> Shapes:
    shapes = convolution("conv_first", COLOURS * unshuffle**2, width)
    for block in range(blocks):
        for dense in (1, 2, 3):
            for i in range(5):
                name = f"body.{block}.rdb{dense}.conv{i + 1}"
                shapes |= convolution(name, width + i * growth, width if i == 4 else growth)
    for name in ("conv_body", *(f"conv_up{i + 1}" for i in range(upconvs)), "conv_hr"):
        shapes |= convolution(name, width, width)
    return shapes | convolution("conv_last", width, COLOURS)


def compact(path: Path, component: Component) -> UpscalerNetwork:
    """The SRVGGNetCompact of a file; raises ModelError for shapes that none has."""
    last = max(numbers(_COMPACT_LAYER, component.sources))
    width, _ = sides(path, component, "body.0.weight")
    outputs, _ = sides(path, component, f"body.{last}.weight")
    scale = math.isqrt(outputs // COLOURS)
    if outputs != COLOURS * scale**2 or not 1 <= scale <= MAX_FACTOR:
        raise ModelError(f"{path}: its network gives {outputs} channels, which are no square of pixels")
    blocks = max(0, last // 2 - 1)
    check_size(path, blocks, width)
    settings = {"blocks": blocks, "width": width, "scale": scale}
    return UpscalerNetwork(blocks, width, scale, settings, _compact_shapes(**settings))


def _compact_shapes(blocks: int, width: int, scale: int) -> Shapes:
    shapes: Shapes = {}
    for i in range(blocks + 1):
        shapes |= convolution(f"body.{2 * i}", width if i else COLOURS, width)
        shapes[f"body.{2 * i + 1}.weight"] = (width,)
    return shapes | convolution(f"body.{2 * blocks + 2}", width, COLOURS * scale**2)
