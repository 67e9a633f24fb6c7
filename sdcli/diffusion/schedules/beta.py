import math
from bisect import bisect_right
from functools import cache

from sdcli.diffusion.levels import Levels
from sdcli.diffusion.ranges import check_range


def beta(steps: int, levels: Levels, *, alpha: float = 0.6, beta: float = 0.6) -> tuple[float, ...]:
    """Whole timesteps spread as a beta distribution: small steps at both ends, large ones between.

    Lee et al. 2024, "Beta Sampling is All You Need", as ComfyUI has it. Where rounding makes two timesteps one, the
    later gives way, so that the steps are as many as asked for. Options: the distribution's alpha and beta.

    paper: https://arxiv.org/abs/2407.12173
    """
    check_range("alpha", alpha, 0.05, 20)
    check_range("beta", beta, 0.05, 20)
    borders = _borders(levels.last, alpha, beta)
    t, sigmas = levels.last + 1, []
    for i in range(steps):
        nearest = bisect_right(borders, 1 - i / steps + 1e-12)  # the middle one of 1000 rounds up
        t = max(min(nearest, t - 1), steps - 1 - i)
        sigmas.append(levels.table[t])
    return (*sigmas, 0.0)


@cache
def _borders(last: int, alpha: float, beta: float) -> list[float]:
    """The share of the distribution below each border between two timesteps, 1/2, 3/2 … last - 1/2."""
    return [_below((k + 0.5) / last, alpha, beta) for k in range(last)]


def _below(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (DLMF 8.17.22)."""
    if x > (a + 1) / (a + b + 2):
        return 1 - _below(1 - x, b, a)
    fraction = 0.0
    for m in range(60, 0, -1):
        odd = -(a + m - 1) * (a + b + m - 1) * x / ((a + 2 * m - 2) * (a + 2 * m - 1))
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        fraction = odd / (1 + even / (1 + fraction))
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return math.exp(front + a * math.log(x) + b * math.log(1 - x)) / (a * (1 + fraction))
