from sdcli.diffusion.levels import Levels


def trailing(steps: int, levels: Levels) -> tuple[float, ...]:
    """Whole timesteps down from the highest in strides of 1000 / steps; right for very few steps.

    Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed", table 2.

    paper: https://arxiv.org/abs/2305.08891
    """
    count = levels.last + 1
    return (*(levels.sigma(round(count - i * count / steps) - 1) for i in range(steps)), 0.0)
