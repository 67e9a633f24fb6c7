from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.levels import Levels
from sdcli.diffusion.ranges import check_range
from sdcli.diffusion.types import Denoise, Noise, Sigmas


def tcd(denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise, *, gamma: float = 0.3) -> Iterator[Tensor]:
    """Trajectory consistency sampling: step below the next level, then add noise up to it; few steps, TCD models.

    Zheng et al. 2024, "Trajectory Consistency Distillation", algorithm 4. One evaluation a step. Option: gamma, how far
    below: it steps to 1 - gamma times the next timestep (on Stable Diffusion's table of levels); 0 adds no noise.

    order: 1
    evaluations: steps
    paper: https://arxiv.org/abs/2402.19159
    """
    check_range("gamma", gamma, 0, 1)
    levels = Levels.scaled_linear()
    for sigma, lower in pairwise(sigmas):
        denoised = denoise(x, sigma)
        down = min(lower, levels.sigma(int((1 - gamma) * levels.t(lower)))) if gamma > 0 else lower
        x = denoised + (x - denoised) * (down / sigma)
        if lower > down:
            x = x + noise(sigma, lower) * math.sqrt(lower**2 - down**2)
        yield x
