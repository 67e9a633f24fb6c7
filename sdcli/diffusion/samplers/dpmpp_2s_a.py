from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.ancestral import ancestral_step
from sdcli.diffusion.types import Denoise, Noise, Sigmas


def dpmpp_2s_a(
    denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0
) -> Iterator[Tensor]:
    """DPM-Solver++(2S) with fresh noise at each step (ancestral): two evaluations a step but one in the last.

    Lu et al. 2022, "DPM-Solver++", algorithm 1 with r = 1/2; second order at eta 0. Options: eta, the share of fresh
    noise; s_noise, a factor on it.

    order: 2
    evaluations: 2 * steps - 1
    paper: https://arxiv.org/abs/2211.01095
    """
    for sigma, lower in pairwise(sigmas):
        denoised = denoise(x, sigma)
        down, up = ancestral_step(sigma, lower, eta)
        if down > 0:
            middle = math.sqrt(sigma * down)
            denoised = denoise(denoised + (x - denoised) * (middle / sigma), middle)
        x = denoised + (x - denoised) * (down / sigma)
        if up > 0:
            x = x + noise(sigma, lower) * (up * s_noise)
        yield x
