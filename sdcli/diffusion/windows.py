"""Windows: a large plane is worked on in overlapping windows of one size, and the results are blended."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

Window = tuple[slice, slice]
"""Rows and columns."""


def windows(height: int, width: int, side: int, overlap: int) -> list[Window]:
    """Windows of at most side x side that cover height x width; neighbours share at least `overlap`."""
    return [
        (slice(top, top + min(side, height)), slice(left, left + min(side, width)))
        for top in _starts(height, side, overlap)
        for left in _starts(width, side, overlap)
    ]


def blend(
    size: tuple[int, int],
    cover: Sequence[Window],
    compute: Callable[[Window], Tensor],
    factor: int = 1,
) -> Tensor:
    """The results of `compute` for each window of `cover`, as one plane (…, size[0] * factor, size[1] * factor).

    compute(window) returns (…, rows * factor, columns * factor). Where windows overlap, their results are averaged with
    weights that fall off linearly from the middle of a window to its edges. A single window is returned as it is.
    """
    if len(cover) == 1:
        return compute(cover[0])
    total = total_weight = torch.zeros(())
    for i, window in enumerate(cover):
        rows, columns = (slice(side.start * factor, side.stop * factor) for side in window)
        result = compute(window)
        weight = _ramp(result.shape[-2], result)[:, None] * _ramp(result.shape[-1], result)
        if i == 0:
            shape = (*result.shape[:-2], size[0] * factor, size[1] * factor)
            total, total_weight = result.new_zeros(shape), result.new_zeros(shape[-2:])
        total[..., rows, columns] += result * weight
        total_weight[rows, columns] += weight
    return total / total_weight


def blend_bands(
    size: tuple[int, int],
    rows: Sequence[slice],
    columns: Sequence[slice],
    compute: Callable[[Window], Tensor],
    factor: int = 1,
) -> Iterator[Tensor]:
    """What `blend` gives for the windows rows x columns, bit for bit, as bands from the top down.

    Only as many rows as one window has are in memory at a time.
    """
    if len(rows) == len(columns) == 1:
        yield compute((rows[0], columns[0]))
        return
    width = size[1] * factor
    rest = rest_weight = torch.zeros(())  # of the band before: where its windows overlap the next one's
    for row, below in zip(rows, [*rows[1:], None], strict=True):
        total = total_weight = torch.zeros(())
        for i, column in enumerate(columns):
            result = compute((row, column))
            weight = _ramp(result.shape[-2], result)[:, None] * _ramp(result.shape[-1], result)
            if i == 0:
                total = result.new_zeros((*result.shape[:-1], width))
                total_weight = result.new_zeros((result.shape[-2], width))
                if rest.dim():
                    total[..., : rest.shape[-2], :] = rest
                    total_weight[: rest.shape[-2]] = rest_weight
            across = slice(column.start * factor, column.stop * factor)
            total[..., across] += result * weight
            total_weight[:, across] += weight
        done = ((row.stop if below is None else below.start) - row.start) * factor
        yield total[..., :done, :] / total_weight[:done]
        rest, rest_weight = total[..., done:, :], total_weight[done:]


def _starts(length: int, side: int, overlap: int) -> list[int]:
    """Where the windows start along one axis: the fewest, spread evenly."""
    if length <= side:
        return [0]
    count = 1 + math.ceil((length - side) / (side - overlap))
    return [round(i * (length - side) / (count - 1)) for i in range(count)]


def _ramp(length: int, like: Tensor) -> Tensor:
    """1, 2, … up to the middle and back down to 1; dtype and device of `like`."""
    up = torch.arange(1, length + 1, dtype=like.dtype, device=like.device)
    return torch.minimum(up, up.flip(0))
