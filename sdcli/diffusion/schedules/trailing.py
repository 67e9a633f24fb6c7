from sdcli.diffusion.levels import Levels
from sdcli.errors import UsageError


def trailing(steps: int, levels: Levels, *, among: int = 0) -> tuple[float, ...]:
    """Whole timesteps down from the highest in strides of 1000 / steps; right for very few steps.

    Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed", table 2. Option: among, so many
    trailing levels among which evenly spaced ones are taken: 50 for LCM and TCD, which were distilled on those.

    paper: https://arxiv.org/abs/2305.08891
    """
    count = levels.last + 1
    if among:
        if not steps <= among <= count:
            raise UsageError(
                f"{steps} steps cannot be chosen among {among} of {count} timesteps; take at most {min(among, count)}"
            )
        highest = (count // among) * among
        return (
            *(levels.sigma(highest - count // among * (i * among // steps) - 1) for i in range(steps)),
            0.0,
        )
    return (*(levels.sigma(round(count - i * count / steps) - 1) for i in range(steps)), 0.0)
