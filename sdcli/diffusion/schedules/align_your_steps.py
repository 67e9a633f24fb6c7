import math

from sdcli.diffusion.levels import Levels

_SD15 = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)
_SDXL = (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029)


def align_your_steps(
    steps: int, levels: Levels, *, xl: bool = False, clamped: bool = True
) -> tuple[float, ...]:
    """Levels found by optimisation for Stable Diffusion 1.5 or SDXL; good in 10 steps.

    Sabour et al. 2024, "Align Your Steps". Their table has 11 levels; for other numbers of levels log(sigma) is
    interpolated, as they advise and A1111 does. Options: xl, the table for SDXL; clamped, the ends of the trained
    levels in place of the table's, which are rounded (14.615 and 0.029).

    paper: https://arxiv.org/abs/2404.14507
    """
    table = _SDXL if xl else _SD15
    between = [_interpolated(table, i / (steps - 1)) for i in range(1, steps)]
    if not clamped:
        return (table[0], *between, 0.0)
    clamp = [min(max(sigma, levels.sigma_min), levels.sigma_max) for sigma in between]
    return (levels.sigma_max, *clamp, 0.0)


def _interpolated(table: tuple[float, ...], share: float) -> float:
    """The level at a share, 0 … 1, of the table; between its levels log(sigma) is interpolated."""
    position = share * (len(table) - 1)
    k = min(int(position), len(table) - 2)
    return math.exp(math.log(table[k]) + (position - k) * math.log(table[k + 1] / table[k]))
