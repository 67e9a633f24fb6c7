from sdcli.diffusion.levels import Levels


def uniform(steps: int, levels: Levels) -> tuple[float, ...]:
    """Even in the timestep, from the highest to 0: k-diffusion's "normal", A1111's "Automatic"."""
    if steps == 1:
        return (levels.sigma_max, 0.0)
    return (*(levels.sigma(levels.last * (1 - i / (steps - 1))) for i in range(steps)), 0.0)
