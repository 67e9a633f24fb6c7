from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.adams import adams
from sdcli.diffusion.ranges import check_range
from sdcli.diffusion.types import Denoise, Noise, Sigmas


def ipndm(denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise, *, order: int = 4) -> Iterator[Tensor]:
    """Improved pseudo numerical method (iPNDM): one evaluation a step, from up to four slopes; second order.

    Liu et al. 2022, "Pseudo Numerical Methods", without the costly first steps, as in Zhang & Chen 2022, "DEIS".
    Option: order, how many slopes are used.

    order: 2
    evaluations: steps
    paper: https://arxiv.org/abs/2202.09778
    """
    check_range("order", order, 1, 4)
    slopes: list[Tensor] = []  # latest first
    for sigma, lower in pairwise(sigmas):
        slopes = [(x - denoise(x, sigma)) / sigma, *slopes][:order]
        x = x + adams(slopes) * (lower - sigma)
        yield x
