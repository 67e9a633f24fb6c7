import math

from sdcli.diffusion.levels import Levels
from sdcli.diffusion.ranges import check_range


def polyexponential(steps: int, levels: Levels, *, rho: float = 1.0) -> tuple[float, ...]:
    """A power of even steps in log(sigma): rho above 1 puts more of them at low noise, below 1 at high.

    k-diffusion's `get_sigmas_polyexponential`, between the ends of the trained levels. Option: rho.
    """
    check_range("rho", rho, 0.01, 5)
    width = math.log(levels.sigma_max / levels.sigma_min)
    between = [levels.sigma_min * math.exp(width * (1 - i / (steps - 1)) ** rho) for i in range(1, steps - 1)]
    ends = [levels.sigma_max, levels.sigma_min] if steps > 1 else [levels.sigma_max]
    return (*ends[:1], *between, *ends[1:], 0.0)
