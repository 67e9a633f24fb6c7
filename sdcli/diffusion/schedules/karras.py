from sdcli.diffusion.levels import Levels
from sdcli.diffusion.ranges import check_range
from sdcli.diffusion.schedules._ends import ends_of, falling


def karras(steps: int, levels: Levels, *, rho: float = 7.0, ends: str = "") -> tuple[float, ...]:
    """Even in sigma^(1/rho): many small steps at low noise; a good choice for few steps.

    Karras et al. 2022, "Elucidating the Design Space", equation 5, between the ends of the trained levels. Options:
    rho; ends, the schedule whose first and last level replace them, as `karras:ends=leading`.

    paper: https://arxiv.org/abs/2206.00364
    """
    check_range("rho", rho, 0.1, 100)
    first, last = ends_of(ends, steps, levels)
    high, low = first ** (1 / rho), last ** (1 / rho)
    between = [(high + i / (steps - 1) * (low - high)) ** rho for i in range(1, steps - 1)]
    return falling(first, between, last, steps)
