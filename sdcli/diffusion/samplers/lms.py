from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.quadrature import quadrature_weights
from sdcli.diffusion.ranges import check_range
from sdcli.diffusion.types import Denoise, Noise, Sigmas


def lms(denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise, *, order: int = 4) -> Iterator[Tensor]:
    """Linear multistep (Adams-Bashforth): one evaluation a step, from up to four slopes; second order overall.

    k-diffusion's `sample_lms`: the slope is a polynomial in sigma through the past slopes, integrated exactly. It
    starts as Euler's method, which limits its order. Option: order, how many slopes are used.

    order: 2
    evaluations: steps
    paper: https://github.com/crowsonkb/k-diffusion
    """
    check_range("order", order, 1, 10)
    slopes: list[Tensor] = []  # latest first, like the nodes
    for i, (sigma, lower) in enumerate(pairwise(sigmas)):
        slopes = [(x - denoise(x, sigma)) / sigma, *slopes][:order]
        nodes = [sigmas[i - j] for j in range(len(slopes))]
        for slope, weight in zip(slopes, quadrature_weights(nodes, sigma, lower), strict=True):
            x = x + slope * weight
        yield x
