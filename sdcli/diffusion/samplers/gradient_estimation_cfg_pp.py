from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.types import Denoise, Noise, Sigmas
from sdcli.diffusion.uncond import uncond_of


def gradient_estimation_cfg_pp(
    denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise, *, gamma: float = 2.0
) -> Iterator[Tensor]:
    """Gradient estimation with CFG++: guided estimate, unguided noise extrapolated from the last; for --cfg 0 to 2.

    Chung et al. 2024, "CFG++: Manifold-constrained Classifier Free Guidance", on the slopes of gradient_estimation, as
    in ComfyUI. One evaluation a step; the step to 0 returns the denoised estimate. Option: gamma, how far to
    extrapolate; 1 is euler_cfg_pp.

    order: 1
    evaluations: steps
    paper: https://arxiv.org/abs/2406.08070
    """
    previous = None
    for sigma, lower in pairwise(sigmas):
        denoised = denoise(x, sigma)
        if lower == 0:
            x = denoised
        else:
            slope = (x - uncond_of(denoised)) / sigma
            x = denoised + slope * lower
            if previous is not None:
                x = x + (slope - previous) * ((gamma - 1) * (lower - sigma))
            previous = slope
        yield x
