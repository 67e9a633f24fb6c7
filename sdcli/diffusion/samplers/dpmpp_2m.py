from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.types import Denoise, Noise, Sigmas


def dpmpp_2m(denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise) -> Iterator[Tensor]:
    """DPM-Solver++(2M): second order from one evaluation a step, by remembering the last; good in few steps.

    Lu et al. 2022, "DPM-Solver++", algorithm 2, in the noise level h = ln(sigma / lower). The step to 0 returns
    the denoised estimate.

    order: 2
    evaluations: steps
    paper: https://arxiv.org/abs/2211.01095
    """
    before, h_before = None, 0.0
    for sigma, lower in pairwise(sigmas):
        denoised = denoise(x, sigma)
        if lower == 0:
            x = denoised
        else:
            h = math.log(sigma / lower)
            ahead = denoised if before is None else denoised + (denoised - before) * (h / (2 * h_before))
            x = ahead + (x - ahead) * (lower / sigma)
            before, h_before = denoised, h
        yield x
