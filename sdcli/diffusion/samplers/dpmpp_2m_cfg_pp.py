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
    before, h_before = None, 0.0
    for sigma, lower in pairwise(sigmas):
        denoised = denoise(x, sigma)
        if lower == 0:
            x = denoised
        else:
            plain = uncond_of(denoised)
            h = math.log(sigma / lower)
            x = denoised + (x - plain) * (lower / sigma)
            if before is not None:
                x = x + (plain - before) * ((1 - lower / sigma) * h / (2 * h_before))
            before, h_before = plain, h
        yield x
