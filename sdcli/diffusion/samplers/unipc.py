from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from sdcli.diffusion.quadrature import integral
from sdcli.diffusion.ranges import check_range
from sdcli.diffusion.types import Denoise, Noise, Sigmas


def unipc(
    denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise, *, order: int = 3, bh2: bool = False
) -> Iterator[Tensor]:
    """UniPC, predictor and corrector from the same evaluations: third order, one evaluation a step, for few steps.

    Zhao et al. 2023, "UniPC", algorithms 5 and 6, in data prediction. The step to 0 returns the denoised estimate.
    Options: order of the predictor; bh2, their B(h) = exp(h) - 1 in place of h.

    order: 3
    evaluations: steps
    paper: https://arxiv.org/abs/2302.04867
    """
    check_range("order", order, 1, 10)
    start = x  # corrected
    past: list[tuple[float, Tensor]] = []  # (log of the level, estimate), the latest first
    for i, (sigma, lower) in enumerate(pairwise(sigmas)):
        denoised = denoise(x, sigma)
        here = (-math.log(sigma), denoised)
        if past:
            start = _advance(start, past[: min(order, i)], here[0], bh2, here)
        past = [here, *past][:order]
        left = len(sigmas) - 1 - i if sigmas[-1] == 0 else order
        x = denoised if lower == 0 else _advance(start, past[: min(order, left)], -math.log(lower), bh2)
        yield x


def _advance(
    x: Tensor,
    past: list[tuple[float, Tensor]],
    end: float,
    bh2: bool,
    new: tuple[float, Tensor] | None = None,
) -> Tensor:
    """x carried from past[0] to the level `end`: predicted from past estimates, or with a new one, corrected."""
    (begin, now), others = past[0], past[1:] + ([new] if new else [])
    h = end - begin
    scale = math.expm1(-h) if bh2 else -h
    ratios = [(log - begin) / h for log, _ in others]
    half = [0.5] * len(others)  # the authors' choice for a single difference, on both sides
    shares = _shares(ratios, h, scale) if len(others) > 1 else half
    x = now + (x - now) * math.exp(-h)
    for share, ratio, (_, other) in zip(shares, ratios, others, strict=True):
        x = x - (other - now) * (scale * share / ratio)
    return x


def _shares(ratios: list[float], h: float, scale: float) -> list[float]:
    """The solution of the order conditions (their equation 7) for differences taken at these ratios of the step."""
    orders = range(1, len(ratios) + 1)
    wanted = [-h / scale * integral(lambda s, k=k: math.exp((s - 1) * h) * s**k, 0, 1) for k in orders]  # type: ignore[misc]
    powers = [[ratio ** (k - 1) for ratio in ratios] for k in orders]
    solved = torch.linalg.solve(
        torch.tensor(powers, dtype=torch.float64), torch.tensor(wanted, dtype=torch.float64)
    )
    shares: list[float] = solved.tolist()
    return shares
