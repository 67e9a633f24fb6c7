from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.types import Denoise, Noise, Sigmas


def dpm2(denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise) -> Iterator[Tensor]:
    """DPM-Solver-2: second order, two evaluations a step but one in the last (2 x steps - 1 in all).

    Karras et al. 2022, algorithm 2, with the midpoint in log(sigma) as in Lu et al. 2022, "DPM-Solver": k-diffusion's
    `sample_dpm_2`.

    order: 2
    evaluations: 2 * steps - 1
    paper: https://arxiv.org/abs/2206.00927
    """
    for sigma, lower in pairwise(sigmas):
        denoised = denoise(x, sigma)
        if lower == 0:
            x = denoised
        else:
            middle = math.sqrt(sigma * lower)
            x_middle = denoised + (x - denoised) * (middle / sigma)
            x = x + (x_middle - denoise(x_middle, middle)) * ((lower - sigma) / middle)
        yield x
