from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from torch import Tensor

from sdcli.diffusion.quadrature import quadrature_weights
from sdcli.diffusion.ranges import check_range
from sdcli.diffusion.types import Denoise, Noise, Sigmas


def deis(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sigmas,
    noise: Noise,
    *,
    order: int = 3,
    vp_time: bool = False,
    lower_order_final: bool = False,
) -> Iterator[Tensor]:
    """DEIS: a multistep exponential integrator of the noise; one evaluation a step, from up to three slopes.

    Zhang & Chen 2022, "Fast Sampling of Diffusion Models with Exponential Integrator". The slope is a polynomial
    through the past slopes: in log(sigma), as in diffusers, or in the time of the paper's variance-preserving process
    (its tAB-DEIS, which is ComfyUI's). Second order overall, because it starts with Euler's method. The step to 0
    returns the denoised estimate. Options: order, how many slopes are used; vp_time, the polynomial in that time;
    lower_order_final, fewer slopes in the last two of less than 15 steps, as in diffusers.

    order: 2
    evaluations: steps
    paper: https://arxiv.org/abs/2204.13902
    """
    check_range("order", order, 1, 10)
    slopes: list[Tensor] = []  # latest first
    for i, (sigma, lower) in enumerate(pairwise(sigmas)):
        denoised = denoise(x, sigma)
        slopes = [(x - denoised) / sigma, *slopes][:order]
        if lower == 0:
            x = denoised
        else:
            steps_left = len(sigmas) - 1 - i if lower_order_final and len(sigmas) <= 15 else order
            nodes = [sigmas[i - j] for j in range(min(len(slopes), steps_left))]
            weights = _weights_in_vp_time(nodes, lower) if vp_time else _weights(nodes, lower)
            for slope, weight in zip(slopes, weights, strict=False):
                x = x + slope * weight
        yield x


def _weights(nodes: list[float], lower: float) -> list[float]:
    """What each slope counts in the step from nodes[0] to lower, for a polynomial in log(sigma)."""
    logs = [math.log(node) for node in nodes]
    return quadrature_weights(logs, logs[0], math.log(lower), math.exp)


def _weights_in_vp_time(nodes: list[float], lower: float) -> list[float]:
    """The same for a polynomial in the process' time t, whose rate dsigma/dt is summed over 10,000 points, as in the
    authors' code."""
    if len(nodes) == 1:
        return [lower - nodes[0]]
    times = [_vp_time(node) for node in nodes]
    end = _vp_time(lower)
    t = np.linspace(times[0], end, _POINTS)
    sigma_squared = np.expm1(_BETA_SLOPE * t**2 / 2 + _BETA_MIN * t)
    rate = (1 + sigma_squared) * (_BETA_SLOPE * t + _BETA_MIN) / (2 * np.sqrt(sigma_squared))
    weights = []
    for node in times:
        others = [other for other in times if other != node]
        basis = np.prod([(t - other) / (node - other) for other in others], axis=0)
        weights.append(float((rate * basis).sum()) * (end - times[0]) / _POINTS)
    return weights


_POINTS = 10_000
# the paper's process: log(1 + sigma^2) = slope * t^2 / 2 + min * t, with sigma 80 at t = 1 and 0.002 at t = 0.001
_LOG_LOW, _LOG_HIGH = math.log1p(0.002**2), math.log1p(80.0**2)
_BETA_SLOPE = 2 * (_LOG_LOW / 0.001 - _LOG_HIGH) / (0.001 - 1)
_BETA_MIN = _LOG_HIGH - _BETA_SLOPE / 2


def _vp_time(sigma: float) -> float:
    """The time at which the process' noise level is sigma."""
    return (math.sqrt(_BETA_MIN**2 + 2 * _BETA_SLOPE * math.log1p(sigma**2)) - _BETA_MIN) / _BETA_SLOPE
