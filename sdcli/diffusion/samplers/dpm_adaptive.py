from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.ancestral import ancestral_step
from sdcli.diffusion.brownian import Brownian
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
    """DPM-Solver-23 with its own step size: third order; as many evaluations as accuracy asks, at least 3 a step.

    Lu et al. 2022, "DPM-Solver", appendix C, with the step control of k-diffusion, which lands on each level of the
    schedule: ask for few steps, it takes more where they are needed. Options: rtol and atol, how large the error of a
    step may be; eta, how much noise is drawn anew (from one Brownian path, so that a step tried again finds the noise
    of its part); s_noise, its strength.

    order: 3
    evaluations: >= 3 * steps - 2
    paper: https://arxiv.org/abs/2206.00927
    """
    check_range("rtol", rtol, 1e-6, 10)
    check_range("atol", atol, 1e-6, 10)
    path = Brownian(noise, sigmas[0])
    size, earlier = 0.05, x
    for level, target in pairwise(sigmas):
        if target == 0:
            x = denoise(x, level)
        sigma = level
        while sigma > target > 0:
            slope = (x - denoise(x, sigma)) / sigma
            while True:
                tried = min(size, math.log(sigma / target))
                lower = target if tried < size else sigma * math.exp(-tried)
                down, up = ancestral_step(sigma, lower, eta)
                low, high = _pair(denoise, x, slope, sigma, down)
                scale = (low.abs().maximum(earlier.abs()) * rtol).clamp(min=max(atol, 1e-8))
                error = float(((low - high) / scale).square().mean().sqrt())
                factor = 1 + math.atan(1 / (error + 1e-8) ** (1 / (1.5 if eta else 3)) - 1)
                if factor >= 0.81 or tried < 1e-4:
                    size = max(size, tried * factor) if tried < size else tried * factor
                    break
                size = tried * factor
            x, earlier = high, low
            if up > 0:
                x = x + path(sigma, lower) * (up * s_noise)
            sigma = lower
        yield x


def _pair(denoise: Denoise, x: Tensor, slope: Tensor, sigma: float, lower: float) -> tuple[Tensor, Tensor]:
    """x at the lower level, of second and of third order, from the slope at sigma and two evaluations more."""
    h = math.log(sigma / lower)
    one, two = sigma * math.exp(-h / 3), sigma * math.exp(-h * 2 / 3)
    state = x - slope * (sigma - one)
    first = (state - denoise(state, one)) / one - slope
    state = x - slope * (sigma - two) - first * ((sigma - two) * 3 / h - 2 * two)
    second = (state - denoise(state, two)) / two - slope
    reach = sigma - lower
    low = x - slope * reach - first * (reach * 3 / 2)
    return low, x - slope * reach - second * ((reach / h - lower) * 3 / 2)
