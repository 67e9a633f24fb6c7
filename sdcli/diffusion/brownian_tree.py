"""BrownianTree: the Brownian path of torchsde's class of that name, which ComfyUI and A1111 give their SDE samplers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

DIGITS = 6  # decimal places of a level; torchsde's tol=1e-6
POOL_SIZE = 24  # words of entropy that numpy mixes into the seed of each draw


@dataclass(frozen=True)
class _Interval:
    """One interval of the tree. Its halves are the children 2 * key and 2 * key + 1 one level deeper."""

    start: float
    end: float
    key: int = 0
    depth: int = 0

    @property
    def middle(self) -> float:
        return round(0.5 * (self.end + self.start), DIGITS)

    def halves(self) -> tuple[_Interval, _Interval]:
        left, right, depth = 2 * self.key, 2 * self.key + 1, self.depth + 1
        return (
            _Interval(self.start, self.middle, left, depth),
            _Interval(self.middle, self.end, right, depth),
        )


class BrownianTree:
    """torchsde's path over the levels low … high, itself a Noise: (sigma, lower) -> unit noise, float32.

    A binary tree of intervals: the increment over the whole range is one draw, and each interval is halved by a
    Brownian bridge with one more. A draw's seed comes from the picture's seed and the interval's place in the tree, by
    numpy's SeedSequence; `draw` makes unit noise from it, float32 on the CPU. An increment is the sum over the largest
    intervals that fill it. Values are torchsde's bit for bit; k-diffusion's BrownianTreeNoiseSampler gives them this
    sign and scale. Levels are taken in float32; those outside low … high count as the nearer end.
    """

    def __init__(
        self,
        seed: int,
        sigmas: Sequence[float],
        draw: Callable[[int], Tensor],
        device: torch.device | str = "cpu",
        through_log: bool = False,
    ) -> None:
        """`sigmas` are the levels that the path spans, from the lowest above 0 to the highest.

        `through_log` takes each level as exp(log(level)) in float32, which differs in the last digits: k-diffusion's
        dpmpp_sde counts in logarithms.
        """
        self.seed = seed
        self.device = device
        self.through_log = through_log
        low, high = _float32(min(sigma for sigma in sigmas if sigma > 0)), _float32(max(sigmas))
        self._span = high - low
        self._root = _Interval(round(low, DIGITS), round(high, DIGITS))
        self._draw = draw
        self._latest_draws: dict[
            _Interval, Tensor
        ] = {}  # of the latest call; the next one shares half of them

    def __call__(self, sigma: float, lower: float) -> Tensor:
        """Unit noise of the interval from sigma down to lower."""
        high, low = self._level(sigma), self._level(lower)
        scale = torch.tensor(high - low, dtype=torch.float32).sqrt()
        return (self.increment(low, high) * -1 / scale).to(self.device)

    def increment(self, start: float, end: float) -> Tensor:
        """The path at `end` minus the path at `start`, float32 on the CPU."""
        start, end = (
            round(min(max(level, self._root.start), self._root.end), DIGITS) for level in (start, end)
        )
        draws: dict[_Interval, Tensor] = {}
        whole = self._draw(self._seed_of()) * math.sqrt(self._span)
        if start == end:
            return torch.zeros_like(whole)
        first, *rest = self._pieces(self._root, whole, start, end, draws)
        self._latest_draws = draws
        for piece in rest:
            first = first + piece
        return first

    def _pieces(
        self, interval: _Interval, increment: Tensor, start: float, end: float, draws: dict[_Interval, Tensor]
    ) -> Iterator[Tensor]:
        """The increments of the largest intervals of the tree that fill start … end, from the left."""
        if (start, end) == (interval.start, interval.end):
            yield increment
            return
        middle = interval.middle
        draws[interval] = noise = self._noise_of(interval)
        to_left, to_right = middle - interval.start, interval.end - middle
        share = 1 / (interval.end - interval.start)
        left = to_left * increment * share + math.sqrt(to_left * to_right * share) * noise
        left_half, right_half = interval.halves()
        if start < middle:
            yield from self._pieces(left_half, left, start, min(end, middle), draws)
        if end > middle:
            yield from self._pieces(right_half, increment - left, max(start, middle), end, draws)

    def _noise_of(self, interval: _Interval) -> Tensor:
        if interval in self._latest_draws:
            return self._latest_draws[interval]
        return self._draw(self._seed_of((interval.key, interval.depth)))

    def _seed_of(self, place: tuple[int, ...] = ()) -> int:
        """The seed of the draw that halves an interval; without a place, of the increment over the whole range."""
        sequence = np.random.SeedSequence(entropy=self.seed, spawn_key=place, pool_size=POOL_SIZE)
        return int(sequence.generate_state(1)[0])

    def _level(self, sigma: float) -> float:
        level = torch.tensor(sigma, dtype=torch.float32)
        return float(level.log().exp() if self.through_log else level)


def _float32(value: float) -> float:
    return float(np.float32(value))
