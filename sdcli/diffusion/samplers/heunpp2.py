from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.types import Denoise, Noise, Sigmas


def heunpp2(denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise) -> Iterator[Tensor]:
    """Heun++: each step averages the slopes of two steps ahead, weighted by their noise; three evaluations a step.

    Carzit's sampler of 2023, as in ComfyUI's `heunpp2`. A slope ahead counts as its level divided by 3 times the first
    level, or 2 times in the last but one step, which looks one step ahead; the last step takes one slope. With more
    steps it tends to Euler's method with the slope of a fraction of a step ahead, so it is first order.

    order: 1
    evaluations: max(3 * steps - 3, 1)
    paper: https://github.com/Carzit/sd-webui-samplers-scheduler
    """
    for i, (sigma, lower) in enumerate(pairwise(sigmas)):
        denoised = denoise(x, sigma)
        slope = (x - denoised) / sigma
        ahead = sigmas[i + 1 : i + 3] if i + 2 < len(sigmas) - 1 else sigmas[i + 1 : -1]
        if not ahead and lower == 0:
            x = denoised
        else:
            average = slope * (1 - sum(ahead) / (sigmas[0] * (len(ahead) + 1)))
            inner, inner_slope, level = x, slope, sigma
            for next_level in ahead:
                inner = inner + inner_slope * (next_level - level)
                inner_slope, level = (inner - denoise(inner, next_level)) / next_level, next_level
                average = average + inner_slope * (level / (sigmas[0] * (len(ahead) + 1)))
            x = x + average * (lower - sigma)
        yield x
