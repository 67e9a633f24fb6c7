import math

from sdcli.diffusion.levels import Levels

_SD15 = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)
_SDXL = (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029)


def align_your_steps(steps: int, levels: Levels, *, xl: bool = False) -> tuple[float, ...]:
    """Levels found by optimisation for Stable Diffusion 1.5 or SDXL; good in 10 steps.

    Sabour et al. 2024, "Align Your Steps". Their table has 11 levels; for other numbers of levels log(sigma) is
    interpolated, as they advise and A1111 does. Option: xl, the table for SDXL.

    paper: https://arxiv.org/abs/2404.14507
    """
    table = _SDXL if xl else _SD15
    sigmas = [levels.sigma_max]
    for i in range(1, steps):
        position = i / (steps - 1) * (len(table) - 1)
        k = min(int(position), len(table) - 2)
        log_sigma = math.log(table[k]) + (position - k) * math.log(table[k + 1] / table[k])
        sigmas.append(min(max(math.exp(log_sigma), levels.sigma_min), levels.sigma_max))
    return (*sigmas, 0.0)
