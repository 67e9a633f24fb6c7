from sdcli.diffusion.levels import Levels
from sdcli.diffusion.ranges import check_range


def leading(steps: int, levels: Levels, *, offset: int = 1, beyond: int = 0) -> tuple[float, ...]:
    """Whole timesteps, multiples of 1000 // steps plus an offset: the spacing of diffusers' DDIM and of CompVis.

    It starts below the highest level (at t = 951 for 20 steps); one step starts at the highest level. Options:
    offset, which is made smaller where the first timestep would be above the highest (1000 steps); beyond, for
    multiples of 1000 // (steps + beyond) without so many of the lowest: 1 for diffusers' multistep schedulers.
    """
    check_range("offset", offset, 0, levels.last)
    if steps == 1 and beyond == 0:
        return (levels.sigma_max, 0.0)
    check_range("beyond", beyond, 0, levels.last)
    stride = max((levels.last + 1) // (steps + beyond), 1)
    beyond = min(beyond, levels.last + 1 - steps)
    offset = min(offset, levels.last - (steps + beyond - 1) * stride)
    return (*(levels.sigma((i + beyond) * stride + offset) for i in reversed(range(steps))), 0.0)
