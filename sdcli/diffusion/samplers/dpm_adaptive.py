from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.ancestral import ancestral_step
from sdcli.diffusion.brownian import brownian_path
from sdcli.diffusion.ranges import check_range
from sdcli.diffusion.types import Denoise, Noise, Sigmas


def dpm_adaptive(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sigmas,
    noise: Noise,
    *,
    rtol: float = 0.05,
    atol: float = 0.0078,
    eta: float = 0.0,
    s_noise: float = 1.0,
) -> Iterator[Tensor]:
    """DPM-Solver-23 with adaptive step size: third order, as many evaluations as accuracy needs, at least 3 a step.

    Lu et al. 2022, "DPM-Solver", appendix C, with the step control of k-diffusion. It stops at each level of the
    schedule and takes more steps between them where they are needed, so ask for few steps. Options: rtol and atol, the
    relative and absolute error allowed in a step; eta, the share of fresh noise (from one Brownian path, so that a
    rejected step finds the same noise when it is tried again shorter); s_noise, a factor on it. The step to 0 returns
    the denoised estimate.

    order: 3
    evaluations: >= 3 * steps - 2
    paper: https://arxiv.org/abs/2206.00927
    """
    check_range("rtol", rtol, 1e-6, 10)
    check_range("atol", atol, 1e-6, 10)
    brownian = brownian_path(noise, sigmas)
    step, previous = 0.05, x  # the step size in log(sigma); the last second-order x, for the error's scale
    for level, target in pairwise(sigmas):
        if target == 0:
            x = denoise(x, level)
        sigma = level
        while sigma > target > 0:
            slope = (x - denoise(x, sigma)) / sigma
            while True:
                tried = min(step, math.log(sigma / target))
                lower = target if tried < step else sigma * math.exp(-tried)
                down, up = ancestral_step(sigma, lower, eta, sigmas[-1])
                second, third = _second_and_third_order(denoise, x, slope, sigma, down)
                allowed = (second.abs().maximum(previous.abs()) * rtol).clamp(min=max(atol, 1e-8))
                error = float(((second - third) / allowed).square().mean().sqrt())
                factor = 1 + math.atan(1 / (error + 1e-8) ** (1 / (1.5 if eta else 3)) - 1)
                if factor >= 0.81 or tried < 1e-4:
                    step = max(step, tried * factor) if tried < step else tried * factor
                    break
                step = tried * factor
            x, previous = third, second
            if up > 0:
                x = x + brownian(sigma, lower) * (up * s_noise)
            sigma = lower
        yield x


def _second_and_third_order(
    denoise: Denoise, x: Tensor, slope: Tensor, sigma: float, lower: float
) -> tuple[Tensor, Tensor]:
    """x at the lower level to second and to third order, from the slope at sigma and two more evaluations."""
    h = math.log(sigma / lower)
    third_way, two_thirds_way = sigma * math.exp(-h / 3), sigma * math.exp(-h * 2 / 3)
    x_inner = x - slope * (sigma - third_way)
    change = (x_inner - denoise(x_inner, third_way)) / third_way - slope
    x_inner = (
        x
        - slope * (sigma - two_thirds_way)
        - change * ((sigma - two_thirds_way) * 3 / h - 2 * two_thirds_way)
    )
    second_change = (x_inner - denoise(x_inner, two_thirds_way)) / two_thirds_way - slope
    width = sigma - lower
    second_order = x - slope * width - change * (width * 3 / 2)
    return second_order, x - slope * width - second_change * ((width / h - lower) * 3 / 2)
