"""Upscaler network: what the names and shapes of an upscaler file's tensors say, whatever its kind."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdcli.checkpoints.component import Component
from sdcli.errors import ModelError

COLOURS = 3
MAX_FACTOR = 16
MAX_BLOCKS = 200
MAX_WIDTH = 1024

Shapes = dict[str, tuple[int, ...]]
"""Name of a tensor in the network -> its shape."""


@dataclass(frozen=True)
class UpscalerNetwork:
    """A network that enlarges pictures: how large it is, what it is built with, and which tensors it has."""

    blocks: int  # RRDBs, hidden convolutions of a compact network, or layers of Swin
    width: int  # channels between the blocks
    scale: int  # how many times each side is enlarged
    settings: Mapping[str, Any]  # the arguments that its class is built with
    shapes: Shapes
    unshuffle: int = 1  # side of the squares of pixels that it takes for one input
    grid: int = 1  # its tiles begin at multiples of so many inputs


def check_size(path: Path, blocks: int, *widths: int) -> None:
    """Raise ModelError for a network larger than any upscaler is."""
    if blocks > MAX_BLOCKS or max(widths) > MAX_WIDTH:
        raise ModelError(
            f"{path}: {blocks} blocks of width {max(widths)} are more than an upscaler has; fetch it again"
        )


def numbers(pattern: re.Pattern[str], names: Iterable[str]) -> list[int]:
    """The numbers in the names that match the pattern."""
    return [int(match[1]) for match in map(pattern.fullmatch, names) if match]


def sides(path: Path, component: Component, name: str) -> tuple[int, int]:
    """(outputs, inputs) of the 3x3 convolution of this name."""
    shape = component.shape(name)
    if len(shape) != 4 or 0 in shape:
        raise ModelError(f"{path}: {name} is {shape}, and no weight of a convolution; fetch it again")
    return shape[0], shape[1]


def convolution(name: str, inputs: int, outputs: int, side: int = 3) -> Shapes:
    """The tensors of a convolution."""
    return {f"{name}.weight": (outputs, inputs, side, side), f"{name}.bias": (outputs,)}
