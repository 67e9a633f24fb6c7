"""Edges: the steps of Canny's edge detector and the blur that other line drawings share, on NumPy arrays."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]

_TAN_22 = math.tan(math.pi / 8)
_NEIGHBOURS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]


def blurred(pixels: Plane, sigma: float) -> Plane:
    """(h, w, c) blurred by a Gaussian of `sigma` pixels, cut off at 4 sigma; the picture is mirrored at its edges."""
    if sigma <= 0:
        return pixels
    radius = math.ceil(4 * sigma)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    for axis in (0, 1):
        pads = [(radius, radius) if i == axis else (0, 0) for i in range(pixels.ndim)]
        padded = np.pad(pixels, pads, mode="reflect" if pixels.shape[axis] > radius else "edge")
        length = pixels.shape[axis]
        pixels = sum(
            (weight * np.take(padded, range(i, i + length), axis=axis) for i, weight in enumerate(weights)),
            np.zeros_like(pixels),
        )
    return pixels


def gradients(pixels: Plane) -> tuple[Plane, Plane]:
    """Sobel's derivatives (across, down), each (h, w), of the channel of (h, w, c) with the largest |dx| + |dy|."""
    padded = np.pad(pixels, ((1, 1), (1, 1), (0, 0)), mode="edge")
    smooth_down = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    smooth_across = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    across = smooth_down[:, 2:] - smooth_down[:, :-2]
    down = smooth_across[2:] - smooth_across[:-2]
    strongest = (abs(across) + abs(down)).argmax(-1)[..., None]
    return (
        np.take_along_axis(across, strongest, -1)[..., 0],
        np.take_along_axis(down, strongest, -1)[..., 0],
    )


def ridges(across: Plane, down: Plane, magnitude: Plane) -> NDArray[np.bool_]:
    """Where the magnitude is the largest along its gradient, which is rounded to one of four directions (h, w).

    Of two equal neighbours, the left or upper one counts, so that an edge is one pixel wide.
    """
    padded = np.pad(magnitude, 1)
    height, width = magnitude.shape

    def neighbour(dy: int, dx: int) -> Plane:
        return padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]

    x, y = abs(across), abs(down)
    level = y < _TAN_22 * x
    upright = y > x / _TAN_22
    falling = (across < 0) == (down < 0)  # from the upper left to the lower right
    beside = (magnitude > neighbour(0, -1)) & (magnitude >= neighbour(0, 1))
    above = (magnitude > neighbour(-1, 0)) & (magnitude >= neighbour(1, 0))
    main = (magnitude > neighbour(-1, -1)) & (magnitude > neighbour(1, 1))
    other = (magnitude > neighbour(-1, 1)) & (magnitude > neighbour(1, -1))
    found: NDArray[np.bool_] = np.where(
        level, beside, np.where(upright, above, np.where(falling, main, other))
    )
    return found


def connected(strong: NDArray[np.bool_], weak: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The strong pixels, and those weak ones that a path of weak ones joins to them, diagonals included (h, w)."""
    found = np.pad(strong, 1)
    open_ = np.pad(weak & ~strong, 1)
    width = found.shape[1]
    flat_found, flat_open = found.reshape(-1), open_.reshape(-1)
    steps = np.array([dy * width + dx for dy, dx in _NEIGHBOURS])
    front = np.flatnonzero(flat_found)
    while front.size:
        reached = np.unique(front[:, None] + steps)
        front = reached[flat_open[reached]]
        flat_found[front], flat_open[front] = True, False
    return found[1:-1, 1:-1]
