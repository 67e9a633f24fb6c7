from sdcli.diffusion.levels import Levels


def uniform(steps: int, levels: Levels, *, whole: bool = False) -> tuple[float, ...]:
    """Even in the timestep, from the highest to 0: k-diffusion's "normal", A1111's "Uniform".

    Option: whole, the nearest whole timesteps, which is the spacing "linspace" of diffusers' DDIM.
    """
    if steps == 1:
        return (levels.sigma_max, 0.0)
    if whole:
        stride = levels.last / (steps - 1)
        return (*(levels.sigma(round((steps - 1 - i) * stride)) for i in range(steps)), 0.0)
    return (*(levels.sigma(levels.last * (1 - i / (steps - 1))) for i in range(steps)), 0.0)
