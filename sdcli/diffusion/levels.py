"""Levels: the noise levels that a network was trained on, and conversion between timestep t and sigma."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from operator import mul

SD_BETAS = (0.00085, 0.012)
"""The first and last beta of Stable Diffusion's schedule, which is `Levels.scaled_linear`."""
DDPM_BETAS = (0.0001, 0.02)
"""The first and last beta of DDPM (Ho et al. 2020), and of the noise on the x4 upscaler's low-resolution picture."""
TIMESTEPS = 1000
"""The number of trained timesteps, of both."""


@dataclass(frozen=True)
class Levels:
    """The trained noise levels: `table[t]` is sigma at timestep t, rising.

    Between two timesteps log(sigma) is linear in t, as in k-diffusion; outside the table t is clamped. `sigma_data` is
    the standard deviation of the data that an EDM network (Karras et al. 2022) is preconditioned for; None for the
    networks of DDPM's kind, which know a level by its timestep.
    """

    table: tuple[float, ...]
    sigma_data: float | None = None

    @classmethod
    def from_betas(cls, betas: Sequence[float]) -> Levels:
        """Levels of a variance-preserving process: sigma^2 = (1 - a) / a, with a the running product of 1 - beta."""
        alphas_cumprod = accumulate((1 - beta for beta in betas), mul)
        return cls(tuple(math.sqrt((1 - a) / a) for a in alphas_cumprod))

    @classmethod
    def scaled_linear(
        cls, start: float = SD_BETAS[0], end: float = SD_BETAS[1], count: int = TIMESTEPS
    ) -> Levels:
        """Stable Diffusion's levels: the square roots of the betas are evenly spaced (CompVis calls it "linear")."""
        low, high = math.sqrt(start), math.sqrt(end)
        return cls.from_betas([(low + (high - low) * i / (count - 1)) ** 2 for i in range(count)])

    @classmethod
    def linear(
        cls, start: float = DDPM_BETAS[0], end: float = DDPM_BETAS[1], count: int = TIMESTEPS
    ) -> Levels:
        """Evenly spaced betas (Ho et al. 2020)."""
        return cls.from_betas([start + (end - start) * i / (count - 1) for i in range(count)])

    @classmethod
    def cosine(cls, count: int = TIMESTEPS) -> Levels:
        """Nichol & Dhariwal 2021, equation 17, betas capped at 0.999: diffusers calls it "squaredcos_cap_v2"."""
        signal = [math.cos((i / count + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(count + 1)]
        return cls.from_betas([min(1 - after / before, 0.999) for before, after in pairwise(signal)])

    @classmethod
    def edm(cls, low: float, high: float, sigma_data: float, count: int = TIMESTEPS) -> Levels:
        """Levels of an EDM network, which knows every level between `low` and `high`: even in log(sigma)."""
        ratio = (high / low) ** (1 / (count - 1))
        return cls((low, *(low * ratio**i for i in range(1, count - 1)), high), sigma_data)

    def rescaled(self) -> Levels:
        """The same levels with zero terminal SNR: no signal is left at the last one. For networks trained so.

        Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed", algorithm 1. The last level
        stays finite: the signal keeps 2^-24 of the variance, sigma is 4096.
        """
        signal = [1 / math.sqrt(1 + sigma**2) for sigma in self.table]
        first, last = signal[0], signal[-1]
        alphas_cumprod = [((s - last) * first / (first - last)) ** 2 for s in signal[:-1]] + [2.0**-24]
        return Levels(tuple(math.sqrt((1 - a) / a) for a in alphas_cumprod))

    @property
    def sigma_min(self) -> float:
        """The lowest trained level, 0.0292 for Stable Diffusion."""
        return self.table[0]

    @property
    def sigma_max(self) -> float:
        """The highest trained level, 14.61 for Stable Diffusion."""
        return self.table[-1]

    @property
    def last(self) -> int:
        """The highest timestep, 999 for Stable Diffusion."""
        return len(self.table) - 1

    @cached_property
    def _logs(self) -> tuple[float, ...]:
        return tuple(map(math.log, self.table))

    def sigma(self, t: float) -> float:
        """Sigma at timestep t, clamped to 0 … last; exact table values at whole t."""
        t = min(max(t, 0.0), float(self.last))
        below = int(t)
        if t == below:
            return self.table[below]
        share = t - below
        return math.exp((1 - share) * self._logs[below] + share * self._logs[below + 1])

    def t(self, sigma: float) -> float:
        """The timestep, in general a fraction, at which the noise level is sigma; clamped to 0 … last."""
        if sigma <= self.table[0]:
            return 0.0
        if sigma >= self.table[-1]:
            return float(self.last)
        below = bisect_right(self.table, sigma) - 1
        if sigma == self.table[below]:
            return float(below)
        logs = self._logs
        return below + (math.log(sigma) - logs[below]) / (logs[below + 1] - logs[below])
