from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.ancestral import ancestral_step
from sdcli.diffusion.types import Denoise, Noise, Sigmas


def dpm_fast(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sigmas,
    noise: Noise,
    *,
    even: bool = False,
    eta: float = 0.0,
    s_noise: float = 1.0,
) -> Iterator[Tensor]:
    """DPM-Solver fast: third order on levels even in log(sigma); one evaluation a step, three steps form one solve.

    Lu et al. 2022, "DPM-Solver", algorithm 2, on the schedule's own levels. Three steps form one solve of third order;
    the one, two or four that are left over form solves of first or second order. The step to 0 returns the denoised
    estimate. Options: even, k-diffusion's `sample_dpm_fast`, whose solves are even in log(sigma) from the first level
    to the last above 0, where they end, in order 3, 3, … and the rest; with it eta, the share of fresh noise after each
    solve, and s_noise, a factor on it.

    order: 3
    evaluations: steps
    paper: https://arxiv.org/abs/2206.00927
    """
    if even:
        yield from _even(denoise, x, sigmas, noise, eta, s_noise)
        return
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


def _even(
    denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise, eta: float, s_noise: float
) -> Iterator[Tensor]:
    """The solves of k-diffusion, one yield an evaluation."""
    steps, end = len(sigmas) - 1, sigmas[-1] or sigmas[-2]
    count = steps // 3 + 1
    last = [2, 1] if steps % 3 == 0 else [steps % 3]
    orders = [3] * (count - len(last)) + last
    levels = [sigmas[0] * (end / sigmas[0]) ** (i / count) for i in range(count)] + [end]
    for order, (sigma, lower) in zip(orders, pairwise(levels), strict=True):
        down, up = ancestral_step(sigma, lower, eta, end)
        inner = [sigma * (down / sigma) ** (i / order) for i in range(order)]
        *earlier, x = _solve(denoise, x, [*inner, down])
        yield from earlier
        if up > 0:
            x = x + noise(sigma, lower) * (up * s_noise)
        yield x


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
