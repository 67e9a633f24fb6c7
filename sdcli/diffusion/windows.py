"""Windows: a large plane as overlapping windows of one size, and what was made of each joined without a seam."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Window = tuple[slice, slice]
"""Rows and columns."""


def windows(height: int, width: int, side: int, overlap: int) -> list[Window]:
    """Windows of at most side x side that cover height x width, neighbours sharing at least `overlap`."""
    return [
        (slice(top, top + min(side, height)), slice(left, left + min(side, width)))
        for top in _starts(height, side, overlap)
        for left in _starts(width, side, overlap)
    ]


def blend(
    size: tuple[int, int], of: list[Window], made: Callable[[Window], Tensor], factor: int = 1
) -> Tensor:
    """What `made` makes of each window, (…, rows * factor, columns * factor), as one of size * factor.

    Each counts most in its middle and falls off linearly towards its edges.
    """
    if len(of) == 1:
        return made(of[0])
    total = weights = torch.zeros(())
    for i, window in enumerate(of):
        rows, columns = (slice(side.start * factor, side.stop * factor) for side in window)
        part = made(window)
        weight = _hill(part.shape[-2], part)[:, None] * _hill(part.shape[-1], part)
        if i == 0:
            shape = (*part.shape[:-2], size[0] * factor, size[1] * factor)
            total, weights = part.new_zeros(shape), part.new_zeros(shape[-2:])
        total[..., rows, columns] += part * weight
        weights[rows, columns] += weight
    return total / weights


def _starts(length: int, side: int, overlap: int) -> list[int]:
    if length <= side:
        return [0]
    count = 1 + math.ceil((length - side) / (side - overlap))
    return [round(i * (length - side) / (count - 1)) for i in range(count)]


def _hill(length: int, like: Tensor) -> Tensor:
    up = torch.arange(1, length + 1, dtype=like.dtype, device=like.device)
    return torch.minimum(up, up.flip(0))
