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
    """Where the probability flow takes x from noise level `start` to `end`, exactly."""
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
    """Where the probability flow takes x from level `start` to `end`: to the same quantile, found by bisection."""

    def below(y: Tensor, sigma: float) -> Tensor:
        width = math.sqrt(spread**2 + sigma**2)
        return (torch.special.ndtr((y - low) / width) + torch.special.ndtr((y - high) / width)) / 2

    wanted = below(x, start)
    left, right = torch.full_like(x, -20.0), torch.full_like(x, 20.0)
    for _ in range(80):
        middle = (left + right) / 2
        under = below(middle, end) < wanted
        left, right = torch.where(under, middle, left), torch.where(under, right, middle)
    return (left + right) / 2


class Spelled:
    """Unit noise as unit vectors, each draw at right angles to all before: a sum of it is one number a draw.

    A run over Gaussian data is linear in its noise, so its exact mean and variance can be read off its end.
    """

    def __init__(self, most: int = 4096) -> None:
        self.most, self.drawn = most, 0

    def __call__(self, *_: float) -> Tensor:
        self.drawn += 1  # place 0 is for the mean
        return _unit(self.drawn, self.most)


class SpelledPath:
    """A Brownian path of spelled noise: each new level lies on the bridge between its neighbours."""

    def __init__(self, noise: Spelled, top: float) -> None:
        whole = noise()
        self.noise, self.known = noise, {0.0: whole * 0, top: whole * math.sqrt(top)}

    def __call__(self, sigma: float, lower: float) -> Tensor:
        return (self.at(sigma) - self.at(lower)) / math.sqrt(sigma - lower)

    def at(self, sigma: float) -> Tensor:
        if sigma not in self.known:
            low = max(level for level in self.known if level < sigma)
            high = min(level for level in self.known if level > sigma)
            part = (sigma - low) / (high - low)
            straight = self.known[low] * (1 - part) + self.known[high] * part
            self.known[sigma] = straight + self.noise() * math.sqrt((sigma - low) * (1 - part))
        return self.known[sigma]


def spelled(x: Tensor, mean: float) -> Tensor:
    """Spelled noise moved by a mean."""
    return x + _unit(0, len(x)) * mean


def _unit(place: int, size: int) -> Tensor:
    x = torch.zeros(size, dtype=torch.float64)
    x[place] = 1.0
    return x
