from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.types import Denoise, Noise, Sigmas


def dpmpp_2m(denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise) -> Iterator[Tensor]:
    """DPM-Solver++(2M): second order from one evaluation a step, by reusing the last estimate; good in few steps.

    Lu et al. 2022, "DPM-Solver++", algorithm 2, with the step size h = ln(sigma / lower). The step to 0 returns the
    denoised estimate.

    order: 2
    evaluations: steps
    paper: https://arxiv.org/abs/2211.01095
    """
    previous, previous_h = None, 0.0
    for sigma, lower in pairwise(sigmas):
        denoised = denoise(x, sigma)
        if lower == 0:
            x = denoised
        else:
            h = math.log(sigma / lower)
            midpoint = denoised  # extrapolated to the middle of the step once there is a previous estimate
            if previous is not None:
                midpoint = denoised + (denoised - previous) * (h / (2 * previous_h))
            x = midpoint + (x - midpoint) * (lower / sigma)
            previous, previous_h = denoised, h
        yield x
