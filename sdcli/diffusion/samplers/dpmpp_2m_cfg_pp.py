from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.types import Denoise, Noise, Sigmas
from sdcli.diffusion.uncond import uncond_of


def dpmpp_2m_cfg_pp(
    denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise, *, from_uncond: bool = False
) -> Iterator[Tensor]:
    """DPM-Solver++(2M) with CFG++: guided estimate, unguided noise; one evaluation a step, for --cfg 0 to 2.

    Chung et al. 2024, "CFG++: Manifold-constrained Classifier Free Guidance", algorithm 4, as in its
    authors' code and in ComfyUI: the second-order term is the guided estimate less the last unguided one. Second order.
    Option: from_uncond, both of them unguided, as in sdcli 0.1.

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
                change = (uncond if from_uncond else denoised) - previous
                x = x + change * ((1 - lower / sigma) * h / (2 * previous_h))
            previous, previous_h = uncond, h
        yield x
