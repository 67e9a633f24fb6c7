from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.types import Denoise, Noise, Sigmas


def euler(denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise) -> Iterator[Tensor]:
    """Euler's method: first order, one evaluation a step, plain and predictable.

    Karras et al. 2022, "Elucidating the Design Space", algorithm 2 without churn.

    order: 1
    evaluations: steps
    paper: https://arxiv.org/abs/2206.00364
    """
    for sigma, lower in pairwise(sigmas):
        denoised = denoise(x, sigma)
        x = denoised + (x - denoised) * (lower / sigma)
        yield x
