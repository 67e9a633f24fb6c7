from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.adams import adams
from sdcli.diffusion.types import Denoise, Noise, Sigmas


def plms(denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise) -> Iterator[Tensor]:
    """Pseudo linear multistep (PNDM, CompVis' PLMS): one evaluation a step but two in the first; second order.

    Liu et al. 2022, "Pseudo Numerical Methods for Diffusion Models on Manifolds", section 3.3. The first step is one of
    Heun's method, but if it goes to 0 it returns the denoised estimate.

    order: 2
    evaluations: steps + (steps > 1)
    paper: https://arxiv.org/abs/2202.09778
    """
    slopes: list[Tensor] = []  # latest first
    for sigma, lower in pairwise(sigmas):
        slopes = [(x - denoise(x, sigma)) / sigma, *slopes][:4]
        if len(slopes) == 1 and lower > 0:
            predicted = x + slopes[0] * (lower - sigma)
            slope = (slopes[0] + (predicted - denoise(predicted, lower)) / lower) / 2
        else:
            slope = adams(slopes)
        x = x + slope * (lower - sigma)
        yield x
