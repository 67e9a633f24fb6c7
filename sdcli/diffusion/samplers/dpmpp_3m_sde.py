from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.brownian import brownian_path
from sdcli.diffusion.ranges import check_range
from sdcli.diffusion.types import Denoise, Noise, Sigmas


def dpmpp_3m_sde(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sigmas,
    noise: Noise,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
    path: bool = True,
    lower_order_final: bool = False,
) -> Iterator[Tensor]:
    """DPM-Solver++(3M) for the diffusion SDE, along one Brownian path: one evaluation a step; for many steps.

    k-diffusion's `sample_dpmpp_3m_sde`, and at eta 0 diffusers' DPM-Solver++ of order 3. Both weigh the second
    difference half as much as the Taylor expansion requires; so does this one, to make the same pictures. Its order at
    eta 0 is therefore 2. Options: eta, the share of fresh noise; s_noise, a factor on it; path, false for fresh noise
    at each step, and lower_order_final, one difference only in the last but one of less than 15 steps, as in diffusers.

    order: 2
    evaluations: steps
    paper: https://arxiv.org/abs/2211.01095
    """
    check_range("eta", eta, 0, 10)
    draw = brownian_path(noise, sigmas) if path else noise
    past: list[tuple[float, Tensor]] = []  # (width of the step, slope of the estimate over it), latest first
    previous = x
    for i, (sigma, lower) in enumerate(pairwise(sigmas)):
        denoised = denoise(x, sigma)
        if i > 0:
            width = math.log(sigmas[i - 1] / sigma)
            past = [(width, (denoised - previous) / width), *past[:1]]
        if lower == 0:
            x = denoised
        else:
            h = math.log(sigma / lower)
            decay = (1 + eta) * h  # x keeps exp(-decay) of its distance to the estimate
            first_weight = h * (1 + math.expm1(-decay) / decay)
            second_weight = h * (first_weight / decay - h / 2)
            x = denoised + (x - denoised) * math.exp(-decay)
            steps_left = len(sigmas) - 1 - i if lower_order_final and len(sigmas) <= 15 else 3
            if len(past) == 1 or (past and steps_left <= 2):
                x = x + past[0][1] * first_weight
            elif past:
                (width, slope), (older_width, older_slope) = past
                curvature = (slope - older_slope) / (width + older_width)
                x = x + (slope + curvature * width) * first_weight - curvature * second_weight
            if eta > 0:
                x = x + draw(sigma, lower) * (lower * math.sqrt(-math.expm1(-2 * eta * h)) * s_noise)
        previous = denoised
        yield x
