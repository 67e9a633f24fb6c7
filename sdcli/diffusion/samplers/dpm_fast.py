from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from sdcli.diffusion.types import Denoise, Noise, Sigmas


def dpm_fast(denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise) -> Iterator[Tensor]:
    """DPM-Solver fast: third order on levels even in log(sigma); one evaluation a step, three steps form one solve.

    Lu et al. 2022, "DPM-Solver", algorithm 2, on the schedule's own levels (k-diffusion ignores the schedule and spaces
    the levels evenly in log(sigma): use --schedule exponential for that). Three steps form one solve of third order;
    the one, two or four that are left over form solves of first or second order. The step to 0 returns the denoised
    estimate.

    order: 3
    evaluations: steps
    paper: https://arxiv.org/abs/2206.00927
    """
    steps = len(sigmas) - 1 - (sigmas[-1] == 0)
    first = 0
    while first < steps:
        left = steps - first
        width = min(left, 2) if left in (1, 2, 4) else 3
        for inner in _solve(denoise, x, sigmas[first : first + width + 1]):
            yield inner
        x = inner
        first += width
    if sigmas[-1] == 0:
        yield denoise(x, sigmas[-2])


def _solve(denoise: Denoise, x: Tensor, levels: Sigmas) -> Iterator[Tensor]:
    """Yields x at each level below the first; the last one is of order len(levels) - 1, which is 1 to 3."""
    sigma = levels[0]
    inner, first_slope, change = x, x, x * 0  # change: of the slope since the first, per unit of log(sigma)
    for k, lower in enumerate(levels[1:]):
        slope = (inner - denoise(inner, levels[k])) / levels[k]
        if k == 0:
            first_slope = slope
        else:
            change = (slope - first_slope) / math.log(sigma / levels[k])
        h = math.log(sigma / lower)
        width = sigma - lower
        change_weight = h * width / 2 if len(levels) == 3 else width - h * lower
        inner = x - first_slope * width - change * change_weight
        yield inner
