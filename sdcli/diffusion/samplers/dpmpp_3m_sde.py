from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.brownian import Brownian
from sdcli.diffusion.ranges import check_range
from sdcli.diffusion.types import Denoise, Noise, Sigmas


def dpmpp_3m_sde(
    denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0
) -> Iterator[Tensor]:
    """DPM-Solver++(3M) for the diffusion SDE, along one Brownian path: one evaluation a step; for many steps.

    k-diffusion's `sample_dpmpp_3m_sde`, and at eta 0 diffusers' DPM-Solver++ of order 3. All of them weigh the second
    difference half as much as the expansion asks for; so does this one, to draw what they draw. Its order at eta 0 is
    therefore 2. Options: eta, how much noise is drawn anew; s_noise, its strength.

    order: 2
    evaluations: steps
    paper: https://arxiv.org/abs/2211.01095
    """
    check_range("eta", eta, 0, 10)
    path = Brownian(noise, sigmas[0])
    past: list[tuple[float, Tensor]] = []  # (width of the step, slope over it), the latest first
    before = x
    for i, (sigma, lower) in enumerate(pairwise(sigmas)):
        denoised = denoise(x, sigma)
        if i > 0:
            width = math.log(sigmas[i - 1] / sigma)
            past = [(width, (denoised - before) / width), *past[:1]]
        if lower == 0:
            x = denoised
        else:
            h = math.log(sigma / lower)
            fall = (1 + eta) * h
            second = h * (1 + math.expm1(-fall) / fall)
            third = h * (second / fall - h / 2)
            x = denoised + (x - denoised) * math.exp(-fall)
            if len(past) == 1:
                x = x + past[0][1] * second
            elif past:
                (near, slope), (far, farther) = past
                bend = (slope - farther) / (near + far)
                x = x + (slope + bend * near) * second - bend * third
            if eta > 0:
                x = x + path(sigma, lower) * (lower * math.sqrt(-math.expm1(-2 * eta * h)) * s_noise)
        before = denoised
        yield x
