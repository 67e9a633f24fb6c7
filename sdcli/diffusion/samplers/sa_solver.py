from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.brownian import Brownian
from sdcli.diffusion.quadrature import decay, weights
from sdcli.diffusion.ranges import check_range
from sdcli.diffusion.types import Denoise, Noise, Sigmas


def sa_solver(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sigmas,
    noise: Noise,
    *,
    order: int = 2,
    corrector: int = 2,
    eta: float = 1.0,
    high: float = 5.2,
    low: float = 0.57,
) -> Iterator[Tensor]:
    """SA-Solver, a stochastic Adams predictor and corrector along one Brownian path; one evaluation a step.

    Xue et al. 2023, "SA-Solver", algorithm 1, in data prediction. Second order at eta 0. Options: predictor order;
    order of the corrector, 0 for none; eta, how much noise is drawn anew (their tau) between the levels high and low.

    order: 2
    evaluations: steps
    paper: https://arxiv.org/abs/2309.05019
    """
    check_range("order", order, 1, 10)
    check_range("corrector", corrector, 0, 10)
    check_range("eta", eta, 0, 10)
    path = Brownian(noise, sigmas[0])
    past: list[tuple[float, Tensor]] = []  # (log of the level, estimate), the latest first
    start, fresh, rate = x, x * 0, 1.0
    for i, (sigma, lower) in enumerate(pairwise(sigmas)):
        here = (-math.log(sigma), denoise(x, sigma))
        if past and corrector:
            x = _advance(start, [here, *past][:corrector], past[0][0], here[0], rate) + fresh
        start = x
        past = [here, *past][: max(order, corrector - 1)]
        if lower == 0:
            x = here[1]
        else:
            tau = eta if low <= sigma <= high else 0.0
            rate = 1 + tau**2
            left = len(sigmas) - 1 - i if sigmas[-1] == 0 else order
            up = lower * math.sqrt(-math.expm1(-2 * tau**2 * math.log(sigma / lower)))
            fresh = path(sigma, lower) * up if up > 0 else x * 0
            x = _advance(start, past[: min(order, left)], here[0], -math.log(lower), rate) + fresh
        yield x


def _advance(x: Tensor, past: list[tuple[float, Tensor]], begin: float, end: float, rate: float) -> Tensor:
    """x carried from level to level, the estimate a polynomial through those given."""
    nodes = [log for log, _ in past]
    shares = weights(nodes, begin, end, decay(end, rate))
    if len(nodes) == 2:  # the authors' own form of second order, for few steps
        span = rate * (end - begin) ** 2 / 2
        one = span / (begin - nodes[1]) if begin == nodes[0] else span / (end - begin)
        fall = -math.expm1(-rate * (end - begin))
        shares = [fall + one, -one] if begin == nodes[0] else [one, fall - one]
    x = x * math.exp(-rate * (end - begin))
    for share, (_, estimate) in zip(shares, past, strict=True):
        x = x + estimate * share
    return x
