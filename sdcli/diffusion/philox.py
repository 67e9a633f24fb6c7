"""Philox: the noise that torch draws on CUDA, drawn on the CPU: counter-based, the same on every machine."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

_MULTIPLY = np.array([0xD2511F53, 0xCD9E8D57], np.uint64)
_ADD = np.array([0x9E3779B9, 0xBB67AE85], np.uint64)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Philox 4x32-10 (Salmon et al. 2011): counters (4, n) and a key of 32 bits each -> 32 random bits (4, n)."""
    a, b, c, d = counter.astype(np.uint64)
    keys = np.array(key, np.uint64)
    for _ in range(10):
        left, right = a * _MULTIPLY[0], c * _MULTIPLY[1]
        a, b, c, d = right >> _HALF ^ b ^ keys[0], right & _LOW, left >> _HALF ^ d ^ keys[1], left & _LOW
        keys = keys + _ADD & _LOW
    return np.stack([a, b, c, d]).astype(np.uint32)


class Philox:
    """A picture's own noise as torch's CUDA generator gives it: A1111's default, and its NV source on the CPU.

    CUDA itself does so up to a number of values that depends on the card, 43,008 on the smallest in use; beyond, its
    numbers are those of the card and these are not.
    """

    def __init__(self, seed: int, shape: tuple[int, ...], device: torch.device | str = "cpu") -> None:
        self.key = (seed & 0xFFFFFFFF, seed >> 32)
        self.shape = shape
        self.device = device
        self.drawn = 0

    def __call__(self, sigma: float, lower: float) -> Tensor:
        """Unit normal noise of `shape`, float32."""
        count = math.prod(self.shape)
        counter = np.zeros((4, count), np.uint32)
        counter[0], counter[2] = self.drawn, np.arange(count)
        self.drawn += 1
        bits = philox(counter, self.key)[:2].astype(np.float64)
        size, angle = (bits * 2.0**-32 + 2.0**-33) * np.array([[1.0], [2 * math.pi]])
        values = np.sqrt(-2 * np.log(size)) * np.sin(angle)
        return torch.from_numpy(values.astype(np.float32)).reshape(self.shape).to(self.device)
