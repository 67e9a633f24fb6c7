import math
from bisect import bisect_right
from functools import cache

from sdcli.diffusion.levels import Levels
from sdcli.diffusion.ranges import check_range
from sdcli.diffusion.schedules._ends import ends_of, falling


def beta(
    steps: int,
    levels: Levels,
    *,
    alpha: float = 0.6,
    beta: float = 0.6,
    distinct: bool = True,
    in_sigma: bool = False,
    ends: str = "",
) -> tuple[float, ...]:
    """Whole timesteps spread as a beta distribution: small steps at both ends, large ones between.

    Lee et al. 2024, "Beta Sampling is All You Need". Where two timesteps round to the same one, the later is moved
    down, so that there are as many steps as asked for. Options: the distribution's alpha and beta; distinct, false to
    leave out the later one, as ComfyUI does; in_sigma, quantiles of sigma, not of the timestep, as in A1111 and
    diffusers; ends, with in_sigma the schedule between whose ends they lie, as for karras.

    paper: https://arxiv.org/abs/2407.12173
    """
    check_range("alpha", alpha, 0.05, 20)
    check_range("beta", beta, 0.05, 20)
    if in_sigma:
        high, low = ends_of(ends, steps, levels)
        quantiles = [_quantile(1 - i / (steps - 1), alpha, beta) for i in range(1, steps - 1)]
        return falling(high, [low + (high - low) * quantile for quantile in quantiles], low, steps)
    cumulative = _cumulative(levels.last, alpha, beta)
    t, sigmas = levels.last + 1, []
    for i in range(steps):
        quantile = bisect_right(cumulative, 1 - i / steps + 1e-12)  # 1e-12: at the median, 499.5 rounds up
        if distinct:
            quantile = max(min(quantile, t - 1), steps - 1 - i)
        if quantile < t:
            sigmas.append(levels.table[quantile])
        t = quantile
    return (*sigmas, 0.0)


@cache
def _cumulative(last: int, alpha: float, beta: float) -> list[float]:
    """The distribution function halfway between each two timesteps: at (k + 1/2) / last for k = 0 … last - 1."""
    return [_incomplete_beta((k + 0.5) / last, alpha, beta) for k in range(last)]


def _quantile(share: float, a: float, b: float) -> float:
    """The x below which this share of the distribution lies: Newton's method, or bisection where it would leave."""
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    low, high, x = 0.0, 1.0, 0.5
    for _ in range(100):
        excess = _incomplete_beta(x, a, b) - share
        low, high = (x, high) if excess < 0 else (low, x)
        density = math.exp(log_front + (a - 1) * math.log(x) + (b - 1) * math.log(1 - x))
        following = x - excess / density
        if not low < following < high:
            following = (low + high) / 2
        if abs(following - x) <= 1e-15 * x:
            break
        x = following
    return x


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (DLMF 8.17.22)."""
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(1 - x, b, a)
    fraction = 0.0
    for m in range(60, 0, -1):
        odd = -(a + m - 1) * (a + b + m - 1) * x / ((a + 2 * m - 2) * (a + 2 * m - 1))
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        fraction = odd / (1 + even / (1 + fraction))
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return math.exp(log_front + a * math.log(x) + b * math.log(1 - x)) / (a * (1 + fraction))
