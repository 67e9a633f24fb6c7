from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.ancestral import ancestral_step
from sdcli.diffusion.types import Denoise, Noise, Sigmas


def dpm2_a(
    denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0
) -> Iterator[Tensor]:
    """DPM-Solver-2 with fresh noise at each step (ancestral): two evaluations a step but one in the last.

    k-diffusion's `sample_dpm_2_ancestral`; second order at eta 0. Options: eta, the share of fresh noise; s_noise, a
    factor on it.

    order: 2
    evaluations: 2 * steps - 1
    paper: https://arxiv.org/abs/2206.00927
    """
    for sigma, lower in pairwise(sigmas):
        denoised = denoise(x, sigma)
        down, up = ancestral_step(sigma, lower, eta)
        if down == 0:
            x = denoised
        else:
            middle = math.sqrt(sigma * down)
            x_middle = denoised + (x - denoised) * (middle / sigma)
            x = x + (x_middle - denoise(x_middle, middle)) * ((down - sigma) / middle)
        if up > 0:
            x = x + noise(sigma, lower) * (up * s_noise)
        yield x
