from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from sdcli.diffusion.types import Denoise, Noise, Sigmas


def lcm(denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise) -> Iterator[Tensor]:
    """Latent consistency sampling: take the estimate, add noise, repeat; 1 to 8 steps, for LCM models only.

    Luo et al. 2023, "Latent Consistency Models", algorithm 3. One evaluation a step.

    evaluations: steps
    paper: https://arxiv.org/abs/2310.04378
    """
    for sigma, lower in pairwise(sigmas):
        x = denoise(x, sigma)
        if lower > 0:
            x = x + noise(sigma, lower) * lower
        yield x
