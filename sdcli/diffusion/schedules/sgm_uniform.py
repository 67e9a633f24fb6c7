from sdcli.diffusion.levels import Levels


def sgm_uniform(steps: int, levels: Levels) -> tuple[float, ...]:
    """Even in the timestep from the highest, the lowest left out: for few-step models (Lightning, Turbo).

    Stability's generative-models, and ComfyUI and A1111 by the same name.
    """
    return (*(levels.sigma(levels.last * (1 - i / steps)) for i in range(steps)), 0.0)
