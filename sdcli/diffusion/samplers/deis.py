from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.quadrature import quadrature_weights
from sdcli.diffusion.ranges import check_range
from sdcli.diffusion.types import Denoise, Noise, Sigmas


def deis(denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise, *, order: int = 3) -> Iterator[Tensor]:
    """DEIS: a multistep exponential integrator of the noise; one evaluation a step, from up to three slopes.

    Zhang & Chen 2022, "Fast Sampling of Diffusion Models with Exponential Integrator". The slope is a polynomial in
    log(sigma), as in diffusers (with one in sigma the method is lms). Second order overall, because it starts with
    Euler's method. The step to 0 returns the denoised estimate. Option: order, how many slopes are used.

    order: 2
    evaluations: steps
    paper: https://arxiv.org/abs/2204.13902
    """
    check_range("order", order, 1, 10)
    slopes: list[Tensor] = []  # latest first
    for i, (sigma, lower) in enumerate(pairwise(sigmas)):
        denoised = denoise(x, sigma)
        slopes = [(x - denoised) / sigma, *slopes][:order]
        if lower == 0:
            x = denoised
        else:
            nodes = [math.log(sigmas[i - j]) for j in range(len(slopes))]
            weights = quadrature_weights(nodes, math.log(sigma), math.log(lower), math.exp)
            for slope, weight in zip(slopes, weights, strict=True):
                x = x + slope * weight
        yield x
