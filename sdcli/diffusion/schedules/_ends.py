"""The ends of the schedules that lie between two levels, which diffusers' schedulers take from another schedule."""

from collections.abc import Sequence

from sdcli import registry
from sdcli.diffusion.levels import Levels


def ends_of(schedule: str, steps: int, levels: Levels) -> tuple[float, float]:
    """(highest, lowest level) of the schedule of that name, or of the trained levels if the name is empty.

    Raises UsageError if there is no such schedule.
    """
    if not schedule:
        return levels.sigma_max, levels.sigma_min
    sigmas = registry.find("schedules", schedule)(steps, levels)
    return sigmas[0], sigmas[-2]


def falling(high: float, between: Sequence[float], low: float, steps: int) -> tuple[float, ...]:
    """The levels from high to low and then 0; a single step goes from high to 0."""
    return (high, *between, low, 0.0) if steps > 1 else (high, 0.0)
