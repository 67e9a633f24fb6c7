from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.ranges import check_range
from sdcli.diffusion.samplers.heun import heun
from sdcli.diffusion.types import Denoise, Noise, Sigmas


def restart(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sigmas,
    noise: Noise,
    *,
    times: int = 1,
    low: float = 0.1,
    high: float = 2.0,
    s_noise: float = 1.0,
) -> Iterator[Tensor]:
    """Restart: Heun's method that near the end goes back up once by adding noise, and repeats the steps down.

    Xu et al. 2023, "Restart Sampling for Improving Generative Processes", algorithm 1. Two evaluations a step but one
    in the last, and two more for each repeated step. Options: times, how often it goes back; low and high, the noise
    levels between which it repeats (the schedule's nearest); s_noise, a factor on the noise.

    order: 2
    evaluations: >= 2 * steps - 1
    paper: https://arxiv.org/abs/2306.14878
    """
    check_range("times", times, 0, 100)
    bottom = min(range(len(sigmas) - 1), key=lambda i: abs(sigmas[i] - low))
    top = min(range(len(sigmas) - 1), key=lambda i: abs(sigmas[i] - high))
    repeated = sigmas[top : bottom + 1]
    for i, step in enumerate(pairwise(sigmas), 1):
        (x,) = heun(denoise, x, step, noise)
        if i == bottom and top < bottom:
            for _ in range(times):
                up = math.sqrt(repeated[0] ** 2 - repeated[-1] ** 2)
                x = x + noise(repeated[-1], repeated[0]) * (up * s_noise)
                *_, x = heun(denoise, x, repeated, noise)
        yield x
