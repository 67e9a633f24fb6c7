from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from sdcli.diffusion.types import Denoise, Noise, Sigmas


def dpm_fast(denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise) -> Iterator[Tensor]:
    """DPM-Solver fast: third order where levels are even in log(sigma); one evaluation a step, three forming one.

    Lu et al. 2022, "DPM-Solver", algorithm 2, on the schedule's own levels (k-diffusion spaces them itself, evenly in
    log(sigma): use --schedule exponential for that). Three steps are one of third order; one or two that are left
    over, or two times two, are of second, and the last returns the denoised estimate.

    order: 3
    evaluations: steps
    paper: https://arxiv.org/abs/2206.00927
    """
    steps = len(sigmas) - 1 - (sigmas[-1] == 0)
    first = 0
    while first < steps:
        left = steps - first
        width = min(left, 2) if left in (1, 2, 4) else 3
        for state in _once(denoise, x, sigmas[first : first + width + 1]):
            yield state
        x = state
        first += width
    if sigmas[-1] == 0:
        yield denoise(x, sigmas[-2])


def _once(denoise: Denoise, x: Tensor, levels: Sigmas) -> Iterator[Tensor]:
    """x at each level below the first, the last of them of the order that there are of them."""
    sigma = levels[0]
    state, first, change = x, x, x * 0  # change: that of the slope since the first, per unit of log(sigma)
    for k, lower in enumerate(levels[1:]):
        slope = (state - denoise(state, levels[k])) / levels[k]
        if k == 0:
            first = slope
        else:
            change = (slope - first) / math.log(sigma / levels[k])
        h = math.log(sigma / lower)
        reach = sigma - lower
        second = h * reach / 2 if len(levels) == 3 else reach - h * lower
        state = x - first * reach - change * second
        yield state
