from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.quadrature import integral
from sdcli.diffusion.ranges import check_range
from sdcli.diffusion.types import Denoise, Noise, Sigmas


def er_sde(
    denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise, *, order: int = 3, s_noise: float = 1.0
) -> Iterator[Tensor]:
    """ER-SDE-Solver-3: an SDE solver with its own noise scale; one evaluation a step, good in 10 to 20 steps.

    Cui et al. 2023, "Elucidating the Solution Space of Extended Reverse-Time SDE", algorithm 4, with the noise scale
    of its section 5. Options: order, 1 to 3 terms of the Taylor series; s_noise, a factor on the noise.

    order: 2
    evaluations: steps
    paper: https://arxiv.org/abs/2309.06169
    """
    check_range("order", order, 1, 3)
    previous: list[
        Tensor
    ] = []  # of the last step: the estimate, its first and its second derivative in sigma
    for i, (sigma, lower) in enumerate(pairwise(sigmas)):
        derivatives = [denoise(x, sigma)]
        for k, old in enumerate(previous[: order - 1], 1):
            derivatives.append((derivatives[-1] - old) * (k / (sigma - sigmas[i - k])))
        if lower == 0:
            x = derivatives[0]
        else:
            kept = _noise_scale(lower) / _noise_scale(sigma)
            x = derivatives[0] + (x - derivatives[0]) * kept
            for k, derivative in enumerate(derivatives[1:], 1):
                x = x + derivative * _taylor_weight(k, sigma, lower)
            up = math.sqrt(max(lower**2 - (sigma * kept) ** 2, 0.0))
            if up > 0 and s_noise > 0:
                x = x + noise(sigma, lower) * (up * s_noise)
        previous = derivatives
        yield x


def _noise_scale(sigma: float) -> float:
    """The noise scale function of ER-SDE 5."""
    return sigma * (math.exp(sigma**0.3) + 10)


def _taylor_weight(k: int, sigma: float, lower: float) -> float:
    """What the k-th derivative of the estimate at sigma contributes to x at lower, integrated over log(sigma)."""

    def integrand(log_s: float) -> float:
        s = math.exp(log_s)
        slope = _noise_scale(s) + 0.3 * s**1.3 * math.exp(s**0.3)  # s times the derivative of the noise scale
        term: float = slope / _noise_scale(s) ** 2 * (s - sigma) ** k / math.factorial(k)
        return term

    return _noise_scale(lower) * integral(integrand, math.log(lower), math.log(sigma))
