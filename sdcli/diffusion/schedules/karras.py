from sdcli.diffusion.levels import Levels
from sdcli.diffusion.ranges import check_range


def karras(steps: int, levels: Levels, *, rho: float = 7.0) -> tuple[float, ...]:
    """Even in sigma^(1/rho): many small steps at low noise; a good choice for few steps.

    Karras et al. 2022, "Elucidating the Design Space", equation 5, between the ends of the trained levels. Option: rho.

    paper: https://arxiv.org/abs/2206.00364
    """
    check_range("rho", rho, 0.1, 100)
    high, low = levels.sigma_max ** (1 / rho), levels.sigma_min ** (1 / rho)
    between = [(high + i / (steps - 1) * (low - high)) ** rho for i in range(1, steps - 1)]
    ends = [levels.sigma_max, levels.sigma_min] if steps > 1 else [levels.sigma_max]
    return (*ends[:1], *between, *ends[1:], 0.0)
