from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.brownian import brownian_path
from sdcli.diffusion.quadrature import decay, quadrature_weights
from sdcli.diffusion.ranges import check_range
from sdcli.diffusion.types import Denoise, Noise, Sigmas


def sa_solver(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sigmas,
    noise: Noise,
    *,
    order: int = 2,
    corrector: int = 2,
    eta: float = 1.0,
    high: float = 5.2,
    low: float = 0.57,
    pece: bool = False,
    simple: bool = True,
    ahead: bool = False,
    path: bool = True,
    lower_order_final: bool = False,
) -> Iterator[Tensor]:
    """SA-Solver: a stochastic Adams predictor and corrector along one Brownian path; one evaluation a step.

    Xue et al. 2023, "SA-Solver", algorithm 1, in data prediction. Second order at eta 0. Options: order of the
    predictor; corrector, its order, 0 for none; eta, the share of fresh noise (the paper's tau) between the noise
    levels high and low; pece, the estimate is made again from each corrected x, which takes twice the evaluations;
    simple, the authors' second-order coefficients, false for exact ones; ahead, tau and the steps left are those of the
    level that a step goes to, as in ComfyUI; path, false for fresh noise at each step; lower_order_final, fewer
    estimates in the last steps also of a run that ends above 0, as in diffusers.

    order: 2
    evaluations: steps
    paper: https://arxiv.org/abs/2309.05019
    """
    check_range("order", order, 1, 10)
    check_range("corrector", corrector, 0, 10)
    check_range("eta", eta, 0, 10)
    draw = brownian_path(noise, sigmas) if path else noise
    lowers_order = sigmas[-1] == 0 or lower_order_final
    past: list[tuple[float, Tensor]] = []  # (-log(sigma), estimate there), latest first
    start, added_noise, rate = x, x * 0, 1.0  # of the last step: the corrected x it began with
    for i, (sigma, lower) in enumerate(pairwise(sigmas)):
        steps_left = len(sigmas) - 1 - i
        latest = (-math.log(sigma), denoise(x, sigma))
        if past and corrector and (lower > 0 or pece):
            count = min(corrector, steps_left) if ahead and lowers_order else corrector
            if lower_order_final:
                count = min(corrector, steps_left + 2)
            x = _advance(start, [latest, *past][:count], past[0][0], latest[0], rate, simple) + added_noise
            if pece:
                latest = (latest[0], denoise(x, sigma))
        start = x
        past = [latest, *past][: max(order, corrector - 1)]
        if lower == 0:
            x = latest[1]
        else:
            tau = eta if low <= (lower if ahead else sigma) <= high else 0.0
            rate = 1 + tau**2
            up = lower * math.sqrt(-math.expm1(-2 * tau**2 * math.log(sigma / lower)))
            drawn = up > 0 or not (path or ahead)  # diffusers draws at every step, ComfyUI where it is needed
            added_noise = draw(sigma, lower) * up if drawn else x * 0
            nodes = past[: min(order, max(steps_left - ahead, 1)) if lowers_order else order]
            x = _advance(start, nodes, latest[0], -math.log(lower), rate, simple) + added_noise
        yield x


def _advance(
    x: Tensor, nodes: list[tuple[float, Tensor]], begin: float, end: float, rate: float, simple: bool
) -> Tensor:
    """x taken from -log(sigma) = begin to end; the estimate is the polynomial through the nodes."""
    at = [log for log, _ in nodes]
    weights = quadrature_weights(at, begin, end, decay(end, rate))
    if simple and len(at) == 2:  # the authors' second-order form, which is better in few steps
        slope_weight = rate * (end - begin) ** 2 / 2
        other = slope_weight / (begin - at[1]) if begin == at[0] else slope_weight / (end - begin)
        total = -math.expm1(-rate * (end - begin))
        weights = [total + other, -other] if begin == at[0] else [other, total - other]
    x = x * math.exp(-rate * (end - begin))
    for weight, (_, estimate) in zip(weights, nodes, strict=True):
        x = x + estimate * weight
    return x
