"""Philox: the noise that torch draws on CUDA, computed on the CPU; counter-based, the same on every machine."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_MULTIPLIERS = np.array([0xD2511F53, 0xCD9E8D57], np.uint64)
_KEY_STEPS = np.array([0x9E3779B9, 0xBB67AE85], np.uint64)
_LOW_BITS = np.uint64(0xFFFFFFFF)
_HIGH = np.uint64(32)


def philox(counters: npt.NDArray[np.uint32], key: tuple[int, int]) -> npt.NDArray[np.uint32]:
    """Philox 4x32-10 (Salmon et al. 2011): counters (4, n) and a key of two 32-bit words -> random bits (4, n)."""
    a, b, c, d = counters.astype(np.uint64)
    keys = np.array(key, np.uint64)
    for _ in range(10):
        left, right = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b, c, d = (
            right >> _HIGH ^ b ^ keys[0],
            right & _LOW_BITS,
            left >> _HIGH ^ d ^ keys[1],
            left & _LOW_BITS,
        )
        keys = keys + _KEY_STEPS & _LOW_BITS
    return np.stack([a, b, c, d]).astype(np.uint32)


class Philox:
    """A picture's noise as torch's CUDA generator draws it: A1111's default, and its "NV" noise source on the CPU.

    Equal to CUDA's up to a number of values that depends on the card: 43,008 on the smallest card in use. Above that
    number CUDA's noise depends on the card, and this does not.
    """

    def __init__(self, seed: int, shape: tuple[int, ...], device: torch.device | str = "cpu") -> None:
        self.key = (seed & 0xFFFFFFFF, seed >> 32)
        self.shape = shape
        self.device = device
        self.draws = 0

    def __call__(self, sigma: float, lower: float) -> Tensor:
        """Unit normal noise of `shape`, float32; the levels of the step make no difference."""
        return self.draw(self.shape)

    def draw(self, shape: tuple[int, ...]) -> Tensor:
        """The next unit normal noise of this shape, float32."""
        count = math.prod(shape)
        counters = np.zeros((4, count), np.uint32)
        counters[0], counters[2] = self.draws, np.arange(count)
        self.draws += 1
        bits = philox(counters, self.key)[:2].astype(np.float64)
        # Box-Muller: one uniform number for the radius, one for the angle
        uniform, angle = (bits * 2.0**-32 + 2.0**-33) * np.array([[1.0], [2 * math.pi]])
        values = np.sqrt(-2 * np.log(uniform)) * np.sin(angle)
        return torch.from_numpy(values.astype(np.float32)).reshape(shape).to(self.device)
