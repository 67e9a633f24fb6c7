from sdcli.diffusion.levels import Levels
from sdcli.diffusion.ranges import check_range


def linear_quadratic(steps: int, levels: Levels, *, threshold: float = 0.025) -> tuple[float, ...]:
    """Half of the steps even and tiny at the highest noise, the rest ever larger: for video and flow models.

    Polyak et al. 2024, "Movie Gen", section 3.4, as in Mochi and ComfyUI. Option: threshold, the share of the way that
    the first half covers.

    paper: https://arxiv.org/abs/2410.13720
    """
    check_range("threshold", threshold, 0.001, 0.5)
    if steps == 1:
        return (levels.sigma_max, 0.0)
    even = steps // 2
    rest = steps - even
    slope = threshold / even
    bend = (1 - threshold - slope * rest) / rest**2
    gone = [slope * i + bend * max(i - even, 0) ** 2 for i in range(steps)]
    return (*(levels.sigma_max * (1 - part) for part in gone), 0.0)
