from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.brownian import brownian_path
from sdcli.diffusion.ranges import check_range
from sdcli.diffusion.types import Denoise, Noise, Sigmas


def dpmpp_2m_sde(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sigmas,
    noise: Noise,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
    heun: bool = False,
    path: bool = True,
) -> Iterator[Tensor]:
    """DPM-Solver++(2M) for the diffusion SDE, along one Brownian path: one evaluation a step, rich in detail.

    Lu et al. 2022, "DPM-Solver++", appendix D, with k-diffusion's eta; second order at eta 0. Options: eta, the share
    of fresh noise; s_noise, a factor on it; heun, the average of two slopes in place of the slope at the midpoint;
    path, false for fresh noise at each step, as in diffusers.

    order: 2
    evaluations: steps
    paper: https://arxiv.org/abs/2211.01095
    """
    check_range("eta", eta, 0, 10)
    draw = brownian_path(noise, sigmas) if path else noise
    previous, previous_h = None, 0.0
    for sigma, lower in pairwise(sigmas):
        denoised = denoise(x, sigma)
        if lower == 0:
            x = denoised
        else:
            h = math.log(sigma / lower)
            decay = (1 + eta) * h  # x keeps exp(-decay) of its distance to the estimate
            x = denoised + (x - denoised) * math.exp(-decay)
            if previous is not None:
                share = 1 + math.expm1(-decay) / decay if heun else -math.expm1(-decay) / 2
                x = x + (denoised - previous) * (share * h / previous_h)
            if eta > 0:
                x = x + draw(sigma, lower) * (lower * math.sqrt(-math.expm1(-2 * eta * h)) * s_noise)
            previous, previous_h = denoised, h
        yield x
