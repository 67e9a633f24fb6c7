from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.ancestral import ancestral_step
from sdcli.diffusion.quadrature import decay, quadrature_weights
from sdcli.diffusion.types import Denoise, Noise, Sigmas


def res_multistep(
    denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise, *, eta: float = 0.0, s_noise: float = 1.0
) -> Iterator[Tensor]:
    """RES multistep: an exponential Adams method of the estimate; second order, one evaluation a step.

    Zhang et al. 2023, "Improved Order Analysis and Design of Exponential Integrator for Diffusion Models Sampling".
    Options: eta, the share of fresh noise (1 is ComfyUI's `res_multistep_ancestral`); s_noise, a factor on it.

    order: 2
    evaluations: steps
    paper: https://arxiv.org/abs/2308.02157
    """
    previous = None
    for i, (sigma, lower) in enumerate(pairwise(sigmas)):
        denoised = denoise(x, sigma)
        down, up = ancestral_step(sigma, lower, eta)
        if down == 0 or previous is None:
            x = denoised + (x - denoised) * (down / sigma)
        else:
            end = -math.log(down)
            nodes = [-math.log(sigma), -math.log(sigmas[i - 1])]
            weight, previous_weight = quadrature_weights(nodes, nodes[0], end, decay(end))
            x = x * (down / sigma) + denoised * weight + previous * previous_weight
        if up > 0:
            x = x + noise(sigma, lower) * (up * s_noise)
        previous = denoised
        yield x
