import math

from sdcli.diffusion.levels import Levels
from sdcli.diffusion.ranges import check_range
from sdcli.diffusion.schedules._ends import ends_of, falling


def polyexponential(steps: int, levels: Levels, *, rho: float = 1.0, ends: str = "") -> tuple[float, ...]:
    """A power of even steps in log(sigma): rho above 1 puts more of them at low noise, below 1 at high.

    k-diffusion's `get_sigmas_polyexponential`, between the ends of the trained levels. Options: rho; ends, the schedule
    whose first and last level replace them, as `polyexponential:ends=leading`.
    """
    check_range("rho", rho, 0.01, 5)
    first, last = ends_of(ends, steps, levels)
    width = math.log(first / last)
    between = [last * math.exp(width * (1 - i / (steps - 1)) ** rho) for i in range(1, steps - 1)]
    return falling(first, between, last, steps)
