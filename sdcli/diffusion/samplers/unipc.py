from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from sdcli.diffusion.quadrature import integral
from sdcli.diffusion.ranges import check_range
from sdcli.diffusion.types import Denoise, Noise, Sigmas


def unipc(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sigmas,
    noise: Noise,
    *,
    order: int = 3,
    bh2: bool = False,
    lower_order_final: bool = False,
) -> Iterator[Tensor]:
    """UniPC: predictor and corrector from the same evaluations; third order, one evaluation a step, for few steps.

    Zhao et al. 2023, "UniPC", algorithms 5 and 6, in data prediction. The step to 0 returns the denoised estimate.
    Options: order of the predictor; bh2, the paper's B(h) = exp(h) - 1 in place of h; lower_order_final, fewer
    estimates in the last steps also of a run that ends above 0.

    order: 3
    evaluations: steps
    paper: https://arxiv.org/abs/2302.04867
    """
    check_range("order", order, 1, 10)
    start = x  # the corrected x that the last step began with
    past: list[tuple[float, Tensor]] = []  # (-log(sigma), estimate there), latest first
    for i, (sigma, lower) in enumerate(pairwise(sigmas)):
        denoised = denoise(x, sigma)
        latest = (-math.log(sigma), denoised)
        if past:
            start = _advance(start, past[: min(order, i)], latest[0], bh2, latest)
        past = [latest, *past][:order]
        steps_left = len(sigmas) - 1 - i if sigmas[-1] == 0 or lower_order_final else order
        nodes = past[: min(order, steps_left)]
        x = denoised if lower == 0 else _advance(start, nodes, -math.log(lower), bh2)
        yield x


def _advance(
    x: Tensor,
    past: list[tuple[float, Tensor]],
    end: float,
    bh2: bool,
    new: tuple[float, Tensor] | None = None,
) -> Tensor:
    """x taken from past[0] to -log(sigma) = end: predicted from past estimates, or with a new one, corrected."""
    (begin, estimate), others = past[0], past[1:] + ([new] if new else [])
    h = end - begin
    scale = math.expm1(-h) if bh2 else -h  # the paper's B(h)
    ratios = [(log - begin) / h for log, _ in others]
    # for a single difference the authors use 1/2, in the predictor and the corrector
    coefficients = _coefficients(ratios, h, scale) if len(others) > 1 else [0.5] * len(others)
    x = estimate + (x - estimate) * math.exp(-h)
    for coefficient, ratio, (_, other) in zip(coefficients, ratios, others, strict=True):
        x = x - (other - estimate) * (scale * coefficient / ratio)
    return x


def _coefficients(ratios: list[float], h: float, scale: float) -> list[float]:
    """The solution of the order conditions (their equation 7) for differences taken at these ratios of the step."""

    def moment(k: int, s: float) -> float:
        return math.exp((s - 1) * h) * s**k

    orders = range(1, len(ratios) + 1)
    moments = [-h / scale * integral(partial(moment, k), 0, 1) for k in orders]
    powers = [[ratio ** (k - 1) for ratio in ratios] for k in orders]
    solution: list[float] = torch.linalg.solve(
        torch.tensor(powers, dtype=torch.float64), torch.tensor(moments, dtype=torch.float64)
    ).tolist()
    return solution
