from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.ranges import check_range
from sdcli.diffusion.types import Denoise, Noise, Sigmas


def ipndm_v(denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise, *, order: int = 4) -> Iterator[Tensor]:
    """iPNDM for uneven steps: one evaluation a step, from up to four slopes; second order, close to lms.

    Zhang & Chen 2022, "DEIS", with the coefficients of diff-sampler's and ComfyUI's `ipndm_v`. Their terms of third
    order are those of Adams-Bashforth for even steps only, those of fourth order for none; lms has them right. The step
    to 0 returns the denoised estimate. Option: order, how many slopes are used.

    order: 2
    evaluations: steps
    paper: https://arxiv.org/abs/2204.13902
    """
    check_range("order", order, 1, 4)
    slopes: list[Tensor] = []  # latest first
    for i, (sigma, lower) in enumerate(pairwise(sigmas)):
        denoised = denoise(x, sigma)
        slopes = [(x - denoised) / sigma, *slopes][:order]
        if lower == 0:
            x = denoised
        else:
            widths = [
                sigmas[i + 1 - k] - sigmas[i - k] for k in range(len(slopes))
            ]  # of this step and those before
            for slope, weight in zip(slopes, _weights(*widths), strict=True):
                x = x + slope * (weight * (lower - sigma))
        yield x


def _weights(h: float, h1: float = 0.0, h2: float = 0.0, h3: float = 0.0) -> list[float]:
    """What each slope counts, latest first, from the widths of this step and of the ones before."""
    if h1 == 0:
        return [1.0]
    weights = [1 + h / h1 / 2, -h / h1 / 2]
    if h2 == 0:
        return weights
    second = (1 - h**2 / (3 * h1 * (h1 + h2))) / 2  # of the second difference of the slopes
    ratio = h1 / h2
    if h3 == 0:
        return _added(weights, second, [1, -(1 + ratio), ratio])
    third = (1 - h / (3 * (h + h1))) / 2 + (1 - h / (2 * (h + h1))) * h / (6 * (h + h1 + h2))
    third *= h * (h + h1) * (h + h1 + h2) / (h1 * (h1 + h2) * (h1 + h2 + h3))
    outer = h1 * (h1 + h2) / (h2 * (h2 + h3))
    weights = _added(weights, second, [1, -(1 + ratio), ratio])
    return _added(weights, third, [1, -(1 + ratio + outer), ratio + outer * (1 + h2 / h3), -outer * h2 / h3])


def _added(weights: list[float], scale: float, difference: list[float]) -> list[float]:
    """The weights plus a difference of the slopes times its scale."""
    padded = weights + [0.0] * (len(difference) - len(weights))
    return [weight + scale * term for weight, term in zip(padded, difference, strict=True)]
