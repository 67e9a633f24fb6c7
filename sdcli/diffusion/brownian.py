"""Brownian: one random path over all noise levels, from which SDE samplers take what falls between any two.

Noise of overlapping or repeated intervals then fits together, and a run of 40 steps follows the same path as one of
20: what a seed shows stays what it is while the steps grow.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sdcli.diffusion.types import Noise

DEPTH = 20  # halvings; two levels closer than 2**-20 of the whole range are drawn apart


class Brownian:
    """A picture's Brownian path over the levels `top` … 0, itself a Noise: (sigma, lower) -> unit noise.

    A virtual tree: the one draw taken from the picture's own noise (at the first call, so that a sampler that needs
    none draws none) is the whole increment and seeds all that lies below. The middle of each interval is drawn from a
    generator of its own, seeded by its place in the tree. So the path does not depend on which levels are asked for,
    nor in which order. float32 draws on the CPU, sums in float64.
    """

    def __init__(self, noise: Noise, top: float) -> None:
        self.noise = noise
        self.top = top
        self._whole: Tensor | None = None
        self._seed = 0
        self._known: dict[int, Tensor] = {}  # the drawn parts of the latest descent

    def __call__(self, sigma: float, lower: float) -> Tensor:
        if self._whole is None:
            self._whole = self.noise(self.top, 0.0)
            bits = self._whole.detach().cpu().float().flatten()[:2].view(torch.int32).tolist()
            self._seed = (bits[0] << 32 | bits[-1] & 0xFFFFFFFF) & 0xFFFFFFFFFFFFFFFF
        gone = (self.at(sigma) - self.at(lower)) / math.sqrt(sigma - lower)
        return gone.to(self._whole)

    def at(self, sigma: float) -> Tensor:
        """The path at a level, 0 at level 0; float64 on the CPU."""
        assert self._whole is not None
        low, high = 0.0, self.top
        below, above = torch.zeros((), dtype=torch.float64), self._whole.cpu().double() * math.sqrt(self.top)
        place, passed = 1, {}
        for _ in range(DEPTH):
            if sigma in (low, high):
                break
            passed[place] = drawn = self._draw(place)
            middle = (low + high) / 2
            between = (below + above) / 2 + drawn * (math.sqrt(high - low) / 2)
            if sigma < middle:
                high, above, place = middle, between, 2 * place
            else:
                low, below, place = middle, between, 2 * place + 1
        part = (sigma - low) / (high - low)
        value = below + (above - below) * part
        if 0 < part < 1:  # the rest of the way in one draw: exact for a single level in the smallest interval
            value = value + self._draw(place) * math.sqrt((sigma - low) * (1 - part))
        self._known = passed
        return value

    def _draw(self, place: int) -> Tensor:
        assert self._whole is not None
        if place in self._known:
            return self._known[place]
        generator = torch.Generator("cpu").manual_seed(_mixed(self._seed + place))
        return torch.randn(self._whole.shape, generator=generator, dtype=torch.float32)


def _mixed(value: int) -> int:
    """32 well-mixed bits of an integer (splitmix64): all that torch's generator takes of a seed."""
    value = (value * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ value >> 27) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return (value ^ value >> 31) >> 32
