from sdcli.diffusion.levels import Levels


def simple(steps: int, levels: Levels) -> tuple[float, ...]:
    """Whole timesteps down from the highest in strides of 1000 / steps, rounded down.

    ComfyUI's and A1111's "simple"; `trailing` rounds to the nearest.
    """
    count = levels.last + 1
    return (*(levels.table[-1 - int(i * count / steps)] for i in range(steps)), 0.0)
