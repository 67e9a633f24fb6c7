from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.ancestral import ancestral_step
from sdcli.diffusion.brownian import brownian_path
from sdcli.diffusion.types import Denoise, Noise, Sigmas


def dpmpp_sde(
    denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0
) -> Iterator[Tensor]:
    """DPM-Solver++ for the diffusion SDE, along one Brownian path: two evaluations a step but one in the last.

    k-diffusion's `sample_dpmpp_sde` with r = 1/2; second order at eta 0. Options: eta, the share of fresh noise;
    s_noise, a factor on it.

    order: 2
    evaluations: 2 * steps - 1
    paper: https://arxiv.org/abs/2211.01095
    """
    brownian = brownian_path(noise, sigmas)
    for sigma, lower in pairwise(sigmas):
        denoised = denoise(x, sigma)
        if lower == 0:
            x = denoised
        else:
            middle = math.sqrt(sigma * lower)
            down, up = ancestral_step(sigma, middle, eta)
            x_middle = denoised + (x - denoised) * (down / sigma)
            if up > 0:
                x_middle = x_middle + brownian(sigma, middle) * (up * s_noise)
            denoised = denoise(x_middle, middle)
            down, up = ancestral_step(sigma, lower, eta)
            x = denoised + (x - denoised) * (down / sigma)
            if up > 0:
                x = x + brownian(sigma, lower) * (up * s_noise)
        yield x
