from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from sdcli.diffusion.samplers.seeds_2 import seeds_2
from sdcli.diffusion.types import Denoise, Noise, Sigmas


def exp_heun_2_x0_sde(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sigmas,
    noise: Noise,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
    phi_2: bool = True,
) -> Iterator[Tensor]:
    """Heun's method for the estimate in log(sigma), with fresh noise at each step; two evaluations a step.

    ComfyUI's `exp_heun_2_x0_sde`: SEEDS-2 with the second stage at the next level; second order at eta 0. The last step
    takes one evaluation. Options: eta, the share of fresh noise; s_noise, a factor on it; phi_2, false for the plain
    average of the two estimates.

    order: 2
    evaluations: 2 * steps - 1
    paper: https://arxiv.org/abs/2305.14267
    """
    yield from seeds_2(denoise, x, sigmas, noise, eta=eta, s_noise=s_noise, r=1.0, phi_2=phi_2)
