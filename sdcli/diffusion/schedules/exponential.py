from sdcli.diffusion.levels import Levels
from sdcli.diffusion.schedules.polyexponential import polyexponential


def exponential(steps: int, levels: Levels) -> tuple[float, ...]:
    """Even in log(sigma): as many steps below sigma 0.65 as above; for the exponential integrators.

    k-diffusion's `get_sigmas_exponential`.
    """
    return polyexponential(steps, levels)
