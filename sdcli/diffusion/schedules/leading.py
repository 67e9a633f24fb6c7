from sdcli.diffusion.levels import Levels
from sdcli.diffusion.ranges import check_range


def leading(steps: int, levels: Levels, *, offset: int = 1) -> tuple[float, ...]:
    """Whole timesteps, multiples of 1000 // steps plus an offset: the spacing of diffusers' DDIM and of CompVis.

    It starts below the highest level (at t = 951 for 20 steps); one step starts at the highest level. Option: offset,
    which is made smaller where the first timestep would be above the highest (1000 steps).
    """
    check_range("offset", offset, 0, levels.last)
    if steps == 1:
        return (levels.sigma_max, 0.0)
    stride = (levels.last + 1) // steps
    offset = min(offset, levels.last - (steps - 1) * stride)
    return (*(levels.sigma(i * stride + offset) for i in reversed(range(steps))), 0.0)
