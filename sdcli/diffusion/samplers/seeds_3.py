from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.ranges import check_range
from sdcli.diffusion.step_noise import StepNoise
from sdcli.diffusion.types import Denoise, Noise, Sigmas


def seeds_3(
    denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0
) -> Iterator[Tensor]:
    """SEEDS-3: a three-stage exponential SDE solver with fresh noise at each stage; three evaluations a step.

    Gonzalez et al. 2023, "SEEDS: Exponential SDE Solvers", in data prediction, with the stages at one and two thirds of
    the step's log(sigma); third order at eta 0, second with noise. The last step takes one evaluation. Options: eta,
    the share of fresh noise; s_noise, a factor on it.

    order: 3
    evaluations: 3 * steps - 2
    paper: https://arxiv.org/abs/2305.14267
    """
    check_range("eta", eta, 0, 10)
    for sigma, lower in pairwise(sigmas):
        denoised = denoise(x, sigma)
        if lower == 0:
            x = denoised
        else:
            h = math.log(sigma / lower)
            decay = (1 + eta) * h  # x keeps exp(-decay) of its distance to the estimate
            first, second = sigma * math.exp(-h / 3), sigma * math.exp(-h * 2 / 3)
            added = StepNoise(noise, eta, s_noise)
            inner = denoised + (x - denoised) * math.exp(-decay / 3) + added(sigma, first)
            change = denoise(inner, first) - denoised
            inner = (
                denoised + (x - denoised) * math.exp(-decay * 2 / 3) + change * (2 * _phi_2(decay * 2 / 3))
            )
            change = denoise(inner + added(first, second), second) - denoised
            x = denoised + (x - denoised) * math.exp(-decay) + change * (1.5 * _phi_2(decay))
            x = x + added(second, lower)
        yield x


def _phi_2(decay: float) -> float:
    """The weight of the estimate's slope over a step, per unit of the step."""
    return 1 + math.expm1(-decay) / decay
