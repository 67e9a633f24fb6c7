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
    """ER-SDE-Solver-3, an SDE with its own share of noise: one evaluation a step, good in 10 to 20 steps.

    Cui et al. 2023, "Elucidating the Solution Space of Extended Reverse-Time SDE", algorithm 4, with the noise scale
    of its section 5. Options: order, 1 to 3 terms of Taylor's series; s_noise, the strength of the noise.

    order: 2
    evaluations: steps
    paper: https://arxiv.org/abs/2309.06169
    """
    check_range("order", order, 1, 3)
    before: list[Tensor] = []  # of the step before: the estimate, its slope and its bend in sigma
    for i, (sigma, lower) in enumerate(pairwise(sigmas)):
        series = [denoise(x, sigma)]
        for k, old in enumerate(before[: order - 1], 1):
            series.append((series[-1] - old) * (k / (sigma - sigmas[i - k])))
        if lower == 0:
            x = series[0]
        else:
            keep = _scale(lower) / _scale(sigma)
            x = series[0] + (x - series[0]) * keep
            for k, term in enumerate(series[1:], 1):
                x = x + term * _moment(k, sigma, lower)
            up = math.sqrt(max(lower**2 - (sigma * keep) ** 2, 0.0))
            if up > 0 and s_noise > 0:
                x = x + noise(sigma, lower) * (up * s_noise)
        before = series
        yield x


def _scale(s: float) -> float:
    """The noise scale function of ER-SDE 5."""
    return s * (math.exp(s**0.3) + 10)


def _moment(k: int, sigma: float, lower: float) -> float:
    """What the k-th derivative of the estimate at sigma adds to x at lower, integrated over log(sigma)."""

    def f(log: float) -> float:
        s = math.exp(log)
        slope = _scale(s) + 0.3 * s**1.3 * math.exp(s**0.3)  # s times the derivative of the scale
        return slope / _scale(s) ** 2 * (s - sigma) ** k / math.factorial(k)

    return _scale(lower) * integral(f, math.log(lower), math.log(sigma))
