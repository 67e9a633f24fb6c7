from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from sdcli.diffusion.samplers.seeds_2 import seeds_2
from sdcli.diffusion.types import Denoise, Noise, Sigmas


def exp_heun_2_x0(
    denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise, *, phi_2: bool = True
) -> Iterator[Tensor]:
    """Heun's method for the estimate in log(sigma): exact where the estimate stands still; two evaluations a step.

    ComfyUI's `exp_heun_2_x0`: SEEDS-2 without noise and with the second stage at the next level. The last step takes
    one evaluation. Option: phi_2, false for the plain average of the two estimates.

    order: 2
    evaluations: 2 * steps - 1
    paper: https://arxiv.org/abs/2305.14267
    """
    yield from seeds_2(denoise, x, sigmas, noise, eta=0.0, r=1.0, phi_2=phi_2)
