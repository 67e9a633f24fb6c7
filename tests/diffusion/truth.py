"""Denoisers whose exact answer is known: Gaussian data, and a mixture of two Gaussians."""

import math

import torch
from torch import Tensor

from sdcli.diffusion.types import Denoise

MEAN, SPREAD = 0.7, 0.5


def gaussian(mean: float = MEAN, spread: float = SPREAD) -> Denoise:
    """The exact denoiser of data N(mean, spread^2): the posterior mean given x = data + sigma * noise."""
    return lambda x, sigma: (spread**2 * x + sigma**2 * mean) / (spread**2 + sigma**2)


def gaussian_end(x: Tensor, start: float, end: float, mean: float = MEAN, spread: float = SPREAD) -> Tensor:
    """The exact x at noise level `end` of the probability flow that is at x at level `start`."""
    return mean + (x - mean) * math.sqrt((spread**2 + end**2) / (spread**2 + start**2))


def mixture(low: float = -1.0, high: float = 1.5, spread: float = 0.4) -> Denoise:
    """The exact denoiser of an even mixture of N(low, spread^2) and N(high, spread^2), element by element."""

    def denoise(x: Tensor, sigma: float) -> Tensor:
        width = spread**2 + sigma**2
        share = torch.sigmoid(((x - low) ** 2 - (x - high) ** 2) / (2 * width))
        return share * gaussian(high, spread)(x, sigma) + (1 - share) * gaussian(low, spread)(x, sigma)

    return denoise


def mixture_end(
    x: Tensor, start: float, end: float, low: float = -1.0, high: float = 1.5, spread: float = 0.4
) -> Tensor:
    """The exact x at level `end` of the probability flow at x at level `start`: the same quantile, by bisection."""

    def quantile(y: Tensor, sigma: float) -> Tensor:
        width = math.sqrt(spread**2 + sigma**2)
        return (torch.special.ndtr((y - low) / width) + torch.special.ndtr((y - high) / width)) / 2

    target = quantile(x, start)
    left, right = torch.full_like(x, -20.0), torch.full_like(x, 20.0)
    for _ in range(80):
        middle = (left + right) / 2
        too_low = quantile(middle, end) < target
        left, right = torch.where(too_low, middle, left), torch.where(too_low, right, middle)
    return (left + right) / 2


class UnitVectors:
    """Unit noise as unit vectors, each draw orthogonal to all earlier ones: x holds one coefficient per draw.

    A run over Gaussian data is linear in its noise, so the final x holds its exact mean (entry 0, see `with_mean`) and,
    as the sum of the squares of the other entries, its exact variance.
    """

    def __init__(self, size: int = 4096) -> None:
        self.size, self.draws = size, 0

    def __call__(self, *_: float) -> Tensor:
        self.draws += 1  # entry 0 is for the mean
        return _unit_vector(self.draws, self.size)


class UnitVectorPath:
    """A Brownian path of such noise: each new level lies on the bridge between its known neighbours."""

    def __init__(self, noise: UnitVectors, top: float) -> None:
        increment = noise()
        self.noise, self.known = noise, {0.0: increment * 0, top: increment * math.sqrt(top)}

    def __call__(self, sigma: float, lower: float) -> Tensor:
        return (self.at(sigma) - self.at(lower)) / math.sqrt(sigma - lower)

    def at(self, sigma: float) -> Tensor:
        if sigma not in self.known:
            low = max(level for level in self.known if level < sigma)
            high = min(level for level in self.known if level > sigma)
            share = (sigma - low) / (high - low)
            expected = self.known[low] * (1 - share) + self.known[high] * share
            self.known[sigma] = expected + self.noise() * math.sqrt((sigma - low) * (1 - share))
        return self.known[sigma]


def with_mean(x: Tensor, mean: float) -> Tensor:
    """Noise of unit vectors, shifted by a mean."""
    return x + _unit_vector(0, len(x)) * mean


def _unit_vector(entry: int, size: int) -> Tensor:
    x = torch.zeros(size, dtype=torch.float64)
    x[entry] = 1.0
    return x
