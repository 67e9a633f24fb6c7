from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.ancestral import ancestral_step
from sdcli.diffusion.quadrature import decay, quadrature_weights
from sdcli.diffusion.types import Denoise, Noise, Sigmas


def res_multistep(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sigmas,
    noise: Noise,
    *,
    eta: float = 0.0,
    s_noise: float = 1.0,
    from_down: bool = False,
) -> Iterator[Tensor]:
    """RES multistep: an exponential Adams method of the estimate; second order, one evaluation a step.

    Zhang et al. 2023, "Improved Order Analysis and Design of Exponential Integrator for Diffusion Models Sampling".
    Options: eta, the share of fresh noise (1 is ComfyUI's `res_multistep_ancestral`); s_noise, a factor on it;
    from_down, the past estimate counted from the level before the fresh noise was added, as in ComfyUI, in place of the
    level at which it is used.

    order: 2
    evaluations: steps
    paper: https://arxiv.org/abs/2308.02157
    """
    yield from multistep(denoise, x, sigmas, noise, lambda denoised: denoised, eta, s_noise, from_down)


def multistep(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sigmas,
    noise: Noise,
    from_estimate: Callable[[Tensor], Tensor],
    eta: float,
    s_noise: float,
    from_down: bool,
) -> Iterator[Tensor]:
    """The method towards from_estimate(guided estimate), with x shifted by what guidance adds to that."""
    previous, last_down = None, 0.0
    for i, (sigma, lower) in enumerate(pairwise(sigmas)):
        denoised = denoise(x, sigma)
        down, up = ancestral_step(sigma, lower, eta)
        estimate = from_estimate(denoised)
        if down == 0:
            x = denoised
        elif previous is None:
            x = denoised + (x - estimate) * (down / sigma)
        else:
            end = -math.log(down)
            last = sigmas[i - 1] * (sigma / last_down if from_down else 1)  # the level of the past estimate
            nodes = [-math.log(sigma), -math.log(last)]
            weight, previous_weight = quadrature_weights(nodes, nodes[0], end, decay(end))
            if estimate is not denoised:
                x = x + (denoised - estimate)
            x = x * (down / sigma) + estimate * weight + previous * previous_weight
        if up > 0:
            x = x + noise(sigma, lower) * (up * s_noise)
        previous, last_down = estimate, down
        yield x
