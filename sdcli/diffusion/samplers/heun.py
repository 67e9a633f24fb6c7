from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.types import Denoise, Noise, Sigmas


def heun(denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise) -> Iterator[Tensor]:
    """Heun's method: second order, two evaluations a step but one in the last (2 x steps - 1 in all).

    Karras et al. 2022, "Elucidating the Design Space", algorithm 1.

    order: 2
    evaluations: 2 * steps - 1
    paper: https://arxiv.org/abs/2206.00364
    """
    for sigma, lower in pairwise(sigmas):
        denoised = denoise(x, sigma)
        slope = (x - denoised) / sigma
        if lower == 0:
            x = denoised
        else:
            predicted = x + slope * (lower - sigma)
            slope_at_lower = (predicted - denoise(predicted, lower)) / lower
            x = x + (slope + slope_at_lower) * ((lower - sigma) / 2)
        yield x
