from sdcli.diffusion.levels import Levels
from sdcli.diffusion.schedules.polyexponential import polyexponential


def exponential(steps: int, levels: Levels, *, ends: str = "") -> tuple[float, ...]:
    """Even in log(sigma): as many steps below sigma 0.65 as above; for the exponential integrators.

    k-diffusion's `get_sigmas_exponential`. Option: ends, the schedule whose first and last level replace the ends of
    the trained levels, as `exponential:ends=leading`.
    """
    return polyexponential(steps, levels, ends=ends)
