from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.ancestral import ancestral_step
from sdcli.diffusion.types import Denoise, Noise, Sigmas
from sdcli.diffusion.uncond import uncond_of


def dpmpp_2s_a_cfg_pp(
    denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0
) -> Iterator[Tensor]:
    """DPM-Solver++(2S) ancestral with CFG++: an unguided step, then what guidance adds; for --cfg 0 to 2.

    Chung et al. 2024, "CFG++: Manifold-constrained Classifier Free Guidance", as in ComfyUI's
    `dpmpp_2s_ancestral_cfg_pp`. Two evaluations a step but one in the last; second order at eta 0. Options: eta, the
    share of fresh noise; s_noise, a factor on it.

    order: 2
    evaluations: 2 * steps - 1
    paper: https://arxiv.org/abs/2406.08070
    """
    for sigma, lower in pairwise(sigmas):
        denoised = denoise(x, sigma)
        down, up = ancestral_step(sigma, lower, eta)
        if down == 0:
            x = denoised
        else:
            uncond = uncond_of(denoised)
            middle = math.sqrt(sigma * down)
            uncond_middle = uncond_of(denoise(uncond + (x - uncond) * (middle / sigma), middle))
            x = uncond_middle + (x - uncond_middle) * (down / sigma) + (denoised - uncond)
        if up > 0:
            x = x + noise(sigma, lower) * (up * s_noise)
        yield x
