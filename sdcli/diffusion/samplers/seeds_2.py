from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.ranges import check_range
from sdcli.diffusion.step_noise import StepNoise
from sdcli.diffusion.types import Denoise, Noise, Sigmas


def seeds_2(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sigmas,
    noise: Noise,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
    r: float = 0.5,
    phi_2: bool = False,
) -> Iterator[Tensor]:
    """SEEDS-2: a two-stage exponential SDE solver with fresh noise at each stage; two evaluations a step but the last.

    Gonzalez et al. 2023, "SEEDS: Exponential SDE Solvers", in data prediction; second order at eta 0. Options: eta, the
    share of fresh noise; s_noise, a factor on it; r, where in the step's log(sigma) the second stage lies; phi_2, the
    stages weighted by the second phi function in place of 1 / (2 r).

    order: 2
    evaluations: 2 * steps - 1
    paper: https://arxiv.org/abs/2305.14267
    """
    check_range("eta", eta, 0, 10)
    check_range("r", r, 0.01, 1)
    for sigma, lower in pairwise(sigmas):
        denoised = denoise(x, sigma)
        if lower == 0:
            x = denoised
        else:
            h = math.log(sigma / lower)
            decay = (1 + eta) * h  # x keeps exp(-decay) of its distance to the estimate
            added = StepNoise(noise, eta, s_noise)
            middle = lower if r == 1 else sigma * math.exp(-r * h)
            x_middle = denoised + (x - denoised) * math.exp(-r * decay) + added(sigma, middle)
            change = denoise(x_middle, middle) - denoised
            weight = (1 + math.expm1(-decay) / decay) / r if phi_2 else -math.expm1(-decay) / (2 * r)
            x = denoised + (x - denoised) * math.exp(-decay) + change * weight + added(middle, lower)
        yield x
