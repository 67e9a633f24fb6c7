from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.types import Denoise, Noise, Sigmas


def gradient_estimation(
    denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise, *, gamma: float = 2.0
) -> Iterator[Tensor]:
    """Gradient estimation: Euler with each slope extrapolated from the last one; first order, one evaluation a step.

    Permenter & Yuan 2023, "Interpreting and Improving Diffusion Models from an Optimization Perspective", algorithm 2.
    Option: gamma, how far to extrapolate; 1 is Euler's method, 1.5 is second order.

    order: 1
    evaluations: steps
    paper: https://arxiv.org/abs/2306.04848
    """
    previous = None
    for sigma, lower in pairwise(sigmas):
        slope = (x - denoise(x, sigma)) / sigma
        extrapolated = slope if previous is None else slope * gamma + previous * (1 - gamma)
        x = x + extrapolated * (lower - sigma)
        previous = slope
        yield x
