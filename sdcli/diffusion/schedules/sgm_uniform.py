from sdcli.diffusion.levels import Levels


def sgm_uniform(steps: int, levels: Levels, *, whole: bool = False) -> tuple[float, ...]:
    """Even in the timestep from the highest, without the lowest: for few-step models (Lightning, Turbo).

    As in Stability's generative-models; ComfyUI and A1111 use the same name. Option: whole, the
    nearest whole timesteps, which is the spacing "linspace" of diffusers' multistep schedulers.
    """
    if whole:
        return (*(levels.sigma(round((steps - i) * (levels.last / steps))) for i in range(steps)), 0.0)
    return (*(levels.sigma(levels.last * (1 - i / steps)) for i in range(steps)), 0.0)
