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
    """Heun's method that once it is near the end goes back up with fresh noise and walks the stretch again.

    Xu et al. 2023, "Restart Sampling for Improving Generative Processes", algorithm 1; at least two evaluations a
    step but one in the last, and two more for each step walked again. Options: times it goes back; low and high, from
    which noise level to which (the schedule's nearest); s_noise, the strength of the noise.

    order: 2
    evaluations: >= 2 * steps - 1
    paper: https://arxiv.org/abs/2306.14878
    """
    check_range("times", times, 0, 100)
    bottom = min(range(len(sigmas) - 1), key=lambda i: abs(sigmas[i] - low))
    top = min(range(len(sigmas) - 1), key=lambda i: abs(sigmas[i] - high))
    again = sigmas[top : bottom + 1]
    for i, step in enumerate(pairwise(sigmas), 1):
        (x,) = heun(denoise, x, step, noise)
        if i == bottom and top < bottom:
            for _ in range(times):
                up = math.sqrt(again[0] ** 2 - again[-1] ** 2)
                x = x + noise(again[-1], again[0]) * (up * s_noise)
                *_, x = heun(denoise, x, again, noise)
        yield x
