from sdcli.diffusion.levels import Levels
from sdcli.diffusion.ranges import check_range


def linear_quadratic(steps: int, levels: Levels, *, threshold: float = 0.025) -> tuple[float, ...]:
    """Half of the steps even and tiny at the highest noise, the rest growing: for video and flow models.

    Polyak et al. 2024, "Movie Gen", section 3.4, as in Mochi and ComfyUI. Option: threshold, the share of the noise
    range that the first half covers.

    paper: https://arxiv.org/abs/2410.13720
    """
    check_range("threshold", threshold, 0.001, 0.5)
    if steps == 1:
        return (levels.sigma_max, 0.0)
    linear_steps = steps // 2
    quadratic_steps = steps - linear_steps
    slope = threshold / linear_steps
    curvature = (1 - threshold - slope * quadratic_steps) / quadratic_steps**2
    covered = [slope * i + curvature * max(i - linear_steps, 0) ** 2 for i in range(steps)]
    return (*(levels.sigma_max * (1 - share) for share in covered), 0.0)
