from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.types import Denoise, Noise, Sigmas
from sdcli.diffusion.uncond import uncond_of


def dpmpp_2m_cfg_pp(denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise) -> Iterator[Tensor]:
    """DPM-Solver++(2M) with CFG++: guided estimate, unguided noise; one evaluation a step, for --cfg 0 to 2.

    Chung et al. 2024, "CFG++: Manifold-constrained Classifier Free Guidance", algorithm 4. Second order.

    order: 2
    evaluations: steps
    paper: https://arxiv.org/abs/2406.08070
    """
    previous, previous_h = None, 0.0
    for sigma, lower in pairwise(sigmas):
        denoised = denoise(x, sigma)
        if lower == 0:
            x = denoised
        else:
            uncond = uncond_of(denoised)
            h = math.log(sigma / lower)
            x = denoised + (x - uncond) * (lower / sigma)
            if previous is not None:
                x = x + (uncond - previous) * ((1 - lower / sigma) * h / (2 * previous_h))
            previous, previous_h = uncond, h
        yield x
