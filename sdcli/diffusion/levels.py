"""Levels: the noise levels a network was trained on, and the way between timestep t and sigma."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from operator import mul


@dataclass(frozen=True)
class Levels:
    """The trained levels. `table[t]` is sigma at timestep t, rising; t may lie between two of them.

    Between timesteps log(sigma) is linear in t, as in k-diffusion; outside, t is clamped.
    """

    table: tuple[float, ...]

    @classmethod
    def of_betas(cls, betas: Sequence[float]) -> Levels:
        """Levels of a variance-preserving process: sigma^2 = (1 - a) / a with a the running product of 1-beta."""
        kept = accumulate((1 - beta for beta in betas), mul)
        return cls(tuple(math.sqrt((1 - a) / a) for a in kept))

    @classmethod
    def scaled_linear(cls, start: float = 0.00085, end: float = 0.012, count: int = 1000) -> Levels:
        """Stable Diffusion's own: betas whose square roots are evenly spaced (CompVis calls it "linear")."""
        low, high = math.sqrt(start), math.sqrt(end)
        return cls.of_betas([(low + (high - low) * i / (count - 1)) ** 2 for i in range(count)])

    @classmethod
    def linear(cls, start: float = 0.0001, end: float = 0.02, count: int = 1000) -> Levels:
        """Evenly spaced betas (Ho et al. 2020)."""
        return cls.of_betas([start + (end - start) * i / (count - 1) for i in range(count)])

    def rescaled(self) -> Levels:
        """The same levels with no signal left at the last: zero terminal SNR, for networks trained so.

        Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed", algorithm 1. The last level
        stays finite, as a share of 2^-24 of the signal's variance: sigma 4096.
        """
        signal = [1 / math.sqrt(1 + sigma**2) for sigma in self.table]
        first, last = signal[0], signal[-1]
        kept = [((s - last) * first / (first - last)) ** 2 for s in signal[:-1]] + [2.0**-24]
        return Levels(tuple(math.sqrt((1 - a) / a) for a in kept))

    @property
    def sigma_min(self) -> float:
        return self.table[0]

    @property
    def sigma_max(self) -> float:
        return self.table[-1]

    @property
    def last(self) -> int:
        """The highest timestep, 999 for Stable Diffusion."""
        return len(self.table) - 1

    @cached_property
    def _logs(self) -> tuple[float, ...]:
        return tuple(map(math.log, self.table))

    def sigma(self, t: float) -> float:
        """Sigma at timestep t in 0 … last; exact table values at whole t."""
        t = min(max(t, 0.0), float(self.last))
        low = int(t)
        if t == low:
            return self.table[low]
        part = t - low
        return math.exp((1 - part) * self._logs[low] + part * self._logs[low + 1])

    def t(self, sigma: float) -> float:
        """The timestep, a fraction in general, at which the noise level is sigma."""
        if sigma <= self.table[0]:
            return 0.0
        if sigma >= self.table[-1]:
            return float(self.last)
        low = bisect_right(self.table, sigma) - 1
        if sigma == self.table[low]:
            return float(low)
        logs = self._logs
        return low + (math.log(sigma) - logs[low]) / (logs[low + 1] - logs[low])
