"""Brownian: one random path over all noise levels, which gives SDE samplers the noise between any two of them.

Noise of overlapping or repeated intervals then agrees, and a run of 40 steps follows the same path as one of 20: more
steps refine the picture of a seed instead of changing it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sdcli.diffusion.types import Noise, Sigmas

DEPTH = 20  # halvings of the range; the path is exact for one level in each interval of top * 2**-20


@dataclass(frozen=True)
class NoiseWithPath:
    """A picture's noise with the path that SDE samplers follow in place of their own: that of another tool."""

    noise: Noise
    path: Noise

    def __call__(self, sigma: float, lower: float) -> Tensor:
        """The next unit noise, for samplers without a path."""
        return self.noise(sigma, lower)


def brownian_path(noise: Noise, sigmas: Sigmas) -> Noise:
    """The path that an SDE sampler follows over its levels: the one that the noise brings, or else a Brownian."""
    return noise.path if isinstance(noise, NoiseWithPath) else Brownian(noise, sigmas[0])


class Brownian:
    """A picture's Brownian path over the levels 0 … top, itself a Noise: (sigma, lower) -> unit noise.

    A virtual tree of intervals, each half of its parent. One draw from the picture's noise, made at the first call so
    that a sampler that needs none draws none, is the increment over the whole range and the seed of everything below.
    The midpoint of each interval is drawn from a generator seeded by the interval's place in the tree. So the path does
    not depend on which levels are asked for, nor in which order. Draws are float32 on the CPU, sums float64.
    """

    def __init__(self, noise: Noise, top: float) -> None:
        self.noise = noise
        self.top = top
        self._root: Tensor | None = None  # unit noise of the whole range
        self._seed = 0
        self._latest_draws: dict[int, Tensor] = {}  # tree node -> draw, of the latest descent

    def __call__(self, sigma: float, lower: float) -> Tensor:
        """Unit noise of the interval from sigma down to lower."""
        if self._root is None:
            self._root = self.noise(self.top, 0.0)
            bits = self._root.detach().cpu().float().flatten()[:2].view(torch.int32).tolist()
            self._seed = (bits[0] << 32 | bits[-1] & 0xFFFFFFFF) & 0xFFFFFFFFFFFFFFFF
        increment = (self.at(sigma) - self.at(lower)) / math.sqrt(sigma - lower)
        return increment.to(self._root)

    def at(self, sigma: float) -> Tensor:
        """The path at a level: 0 at level 0, float64 on the CPU. Call the path itself once before."""
        assert self._root is not None
        low, high = 0.0, self.top
        at_low = torch.zeros((), dtype=torch.float64)
        at_high = self._root.cpu().double() * math.sqrt(self.top)
        node, draws = 1, {}  # the children of node n are 2n and 2n + 1
        for _ in range(DEPTH):
            if sigma in (low, high):
                break
            draws[node] = draw = self._draw(node)
            middle = (low + high) / 2
            at_middle = (at_low + at_high) / 2 + draw * (math.sqrt(high - low) / 2)
            if sigma < middle:
                high, at_high, node = middle, at_middle, 2 * node
            else:
                low, at_low, node = middle, at_middle, 2 * node + 1
        share = (sigma - low) / (high - low)
        value = at_low + (at_high - at_low) * share
        if 0 < share < 1:  # the bridge inside the smallest interval, in one draw: exact for one level in it
            value = value + self._draw(node) * math.sqrt((sigma - low) * (1 - share))
        self._latest_draws = draws
        return value

    def _draw(self, node: int) -> Tensor:
        assert self._root is not None
        if node in self._latest_draws:
            return self._latest_draws[node]
        generator = torch.Generator("cpu").manual_seed(_hash32(self._seed + node))
        return torch.randn(self._root.shape, generator=generator, dtype=torch.float32)


def _hash32(value: int) -> int:
    """32 well-mixed bits of an integer (splitmix64); torch's CPU generator uses no more bits of a seed."""
    value = (value * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ value >> 27) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return (value ^ value >> 31) >> 32
