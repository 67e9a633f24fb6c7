from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from sdcli.diffusion.samplers.euler_a_cfg_pp import euler_a_cfg_pp
from sdcli.diffusion.types import Denoise, Noise, Sigmas


def euler_cfg_pp(denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise) -> Iterator[Tensor]:
    """Euler with CFG++: guided estimate, unguided noise; one evaluation a step, for --cfg 0 to 2.

    Chung et al. 2024, "CFG++: Manifold-constrained Classifier Free Guidance", algorithm 2. First order.

    order: 1
    evaluations: steps
    paper: https://arxiv.org/abs/2406.08070
    """
    yield from euler_a_cfg_pp(denoise, x, sigmas, noise, eta=0)
