import math

from sdcli.diffusion.levels import Levels
from sdcli.diffusion.schedules._ends import falling


def kl_optimal(steps: int, levels: Levels, *, to_zero: bool = True) -> tuple[float, ...]:
    """Even in arctan(sigma), which is optimal for Gaussian data; few steps at high noise.

    Sabour et al. 2024, "Align Your Steps", equation 8, between the ends of the trained levels. Option: to_zero, false
    for steps that end at the lowest trained level, as in A1111, in place of a last step from there to 0.

    paper: https://arxiv.org/abs/2404.14507
    """
    high, low = math.atan(levels.sigma_max), math.atan(levels.sigma_min)
    count = steps if to_zero else steps + 1
    between = [math.tan(high + i / (count - 1) * (low - high)) for i in range(1, count - 1)]
    sigmas = falling(levels.sigma_max, between, levels.sigma_min, count)
    return sigmas if to_zero else sigmas[:-1]
