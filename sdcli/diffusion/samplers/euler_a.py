from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.ancestral import ancestral_step
from sdcli.diffusion.types import Denoise, Noise, Sigmas


def euler_a(
    denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0
) -> Iterator[Tensor]:
    """Euler with fresh noise at each step (ancestral): one evaluation a step; more steps keep changing the picture.

    k-diffusion's `sample_euler_ancestral`. Options: eta, the share of fresh noise; s_noise, a factor on it.

    order: 1
    evaluations: steps
    paper: https://arxiv.org/abs/2010.02502
    """
    for sigma, lower in pairwise(sigmas):
        denoised = denoise(x, sigma)
        down, up = ancestral_step(sigma, lower, eta)
        x = denoised + (x - denoised) * (down / sigma)
        if up > 0:
            x = x + noise(sigma, lower) * (up * s_noise)
        yield x
