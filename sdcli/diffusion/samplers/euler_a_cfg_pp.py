from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.ancestral import ancestral_step
from sdcli.diffusion.types import Denoise, Noise, Sigmas
from sdcli.diffusion.uncond import uncond_of


def euler_a_cfg_pp(
    denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0
) -> Iterator[Tensor]:
    """Euler ancestral with CFG++: guided estimate, unguided noise; one evaluation a step, for --cfg 0 to 2.

    Chung et al. 2024, "CFG++: Manifold-constrained Classifier Free Guidance", in sigma. Options: eta, the share of
    fresh noise; s_noise, a factor on it.

    order: 1
    evaluations: steps
    paper: https://arxiv.org/abs/2406.08070
    """
    for sigma, lower in pairwise(sigmas):
        denoised = denoise(x, sigma)
        down, up = ancestral_step(sigma, lower, eta)
        x = denoised + (x - uncond_of(denoised)) * (down / sigma) if down > 0 else denoised
        if up > 0:
            x = x + noise(sigma, lower) * (up * s_noise)
        yield x
