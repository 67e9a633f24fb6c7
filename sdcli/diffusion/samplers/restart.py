from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.levels import Levels
from sdcli.diffusion.ranges import check_range
from sdcli.diffusion.samplers.heun import heun
from sdcli.diffusion.schedules.karras import karras
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
    within_steps: bool = False,
) -> Iterator[Tensor]:
    """Restart: Heun's method that near the end goes back up once by adding noise, and repeats the steps down.

    Xu et al. 2023, "Restart Sampling for Improving Generative Processes", algorithm 1. Two evaluations a step but one
    in the last, and two more for each repeated step. Options: times, how often it goes back; low and high, the noise
    levels between which it repeats (the schedule's nearest); s_noise, a factor on the noise; within_steps, the repeated
    steps are part of the number that was asked for, all on Karras' levels, as in A1111: none in less than 20 steps, 9
    of them once from 20 steps on, from 36 on a quarter of the steps twice.

    order: 2
    evaluations: >= 2 * steps - 1
    paper: https://arxiv.org/abs/2306.14878
    """
    check_range("times", times, 0, 100)
    if within_steps:
        yield from _within_steps(denoise, x, sigmas, noise, low, high, s_noise)
        return
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


def _within_steps(
    denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise, low: float, high: float, s_noise: float
) -> Iterator[Tensor]:
    """As many steps as the schedule has, some of which repeat others; only its first and last level are used."""
    steps = len(sigmas) - 1
    repeated, times = (0, 0) if steps < 20 else (9, 1) if steps < 36 else (steps // 4, 2)
    levels = list(sigmas) if times == 0 else _karras(steps - repeated * times, sigmas[0], sigmas[-2])
    bottom = min(range(len(levels)), key=lambda i: abs(levels[i] - low))
    top = min(range(len(levels)), key=lambda i: abs(levels[i] - high))
    for i, step in enumerate(pairwise(levels), 1):
        (x,) = heun(denoise, x, step, noise)
        yield x
        if i == bottom and top < bottom:
            for _ in range(times):
                up = math.sqrt(levels[top] ** 2 - levels[bottom] ** 2)
                x = x + noise(levels[bottom], levels[top]) * (up * s_noise)
                again = _karras(repeated + 1, levels[top], levels[bottom])[:-1]
                for step in pairwise(again):
                    (x,) = heun(denoise, x, step, noise)
                    yield x


def _karras(steps: int, high: float, low: float) -> list[float]:
    """Karras' levels from high to low, and 0."""
    return list(karras(steps, Levels((low, high))))
