import math

from sdcli.diffusion.levels import Levels


def kl_optimal(steps: int, levels: Levels) -> tuple[float, ...]:
    """Even in arctan(sigma), which is optimal for Gaussian data; few steps at high noise.

    Sabour et al. 2024, "Align Your Steps", equation 8, between the ends of the trained levels.

    paper: https://arxiv.org/abs/2404.14507
    """
    high, low = math.atan(levels.sigma_max), math.atan(levels.sigma_min)
    between = [math.tan(high + i / (steps - 1) * (low - high)) for i in range(1, steps - 1)]
    ends = [levels.sigma_max, levels.sigma_min] if steps > 1 else [levels.sigma_max]
    return (*ends[:1], *between, *ends[1:], 0.0)
