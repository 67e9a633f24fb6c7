from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.brownian import Brownian
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
) -> Iterator[Tensor]:
    """DPM-Solver++(2M) for the diffusion SDE, along one Brownian path: one evaluation a step, rich in detail.

    Lu et al. 2022, "DPM-Solver++", appendix D, with k-diffusion's eta; second order at eta 0. Options: eta, how much
    noise is drawn anew; s_noise, its strength; heun, the average of the slopes in place of the one in the middle.

    order: 2
    evaluations: steps
    paper: https://arxiv.org/abs/2211.01095
    """
    check_range("eta", eta, 0, 10)
    path = Brownian(noise, sigmas[0])
    before, h_before = None, 0.0
    for sigma, lower in pairwise(sigmas):
        denoised = denoise(x, sigma)
        if lower == 0:
            x = denoised
        else:
            h = math.log(sigma / lower)
            fall = (1 + eta) * h
            x = denoised + (x - denoised) * math.exp(-fall)
            if before is not None:
                half = 1 + math.expm1(-fall) / fall if heun else -math.expm1(-fall) / 2
                x = x + (denoised - before) * (half * h / h_before)
            if eta > 0:
                x = x + path(sigma, lower) * (lower * math.sqrt(-math.expm1(-2 * eta * h)) * s_noise)
            before, h_before = denoised, h
        yield x
