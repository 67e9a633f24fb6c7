from sdcli.diffusion.levels import Levels
from sdcli.diffusion.ranges import check_range


def leading(steps: int, levels: Levels, *, offset: int = 1) -> tuple[float, ...]:
    """Whole timesteps, multiples of 1000 // steps plus an offset: diffusers' DDIM, CompVis' own.

    It begins below the highest level (at t = 951 for 20 steps). One step starts at the highest level, and the
    offset gives way where it would leave the table (501 steps and more than 999 in all).
    """
    check_range("offset", offset, 0, levels.last)
    if steps == 1:
        return (levels.sigma_max, 0.0)
    stride = (levels.last + 1) // steps
    offset = min(offset, levels.last - (steps - 1) * stride)
    return (*(levels.sigma(i * stride + offset) for i in reversed(range(steps))), 0.0)
