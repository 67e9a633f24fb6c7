from sdcli.diffusion.levels import Levels


def sgm_uniform(steps: int, levels: Levels) -> tuple[float, ...]:
    """Even in the timestep from the highest, without the lowest: for few-step models (Lightning, Turbo).

    As in Stability's generative-models; ComfyUI and A1111 use the same name.
    """
    return (*(levels.sigma(levels.last * (1 - i / steps)) for i in range(steps)), 0.0)
