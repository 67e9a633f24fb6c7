from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from sdcli.diffusion.samplers.euler_a import euler_a
from sdcli.diffusion.types import Denoise, Noise, Sigmas


def ddim(denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise, *, eta: float = 0.0) -> Iterator[Tensor]:
    """DDIM: one evaluation a step; eta 0 is deterministic, eta 1 is DDPM's posterior.

    Song et al. 2020, equation 12. In sigma = sqrt((1 - a) / a) it is an Euler step in which eta sets the share of the
    noise that is replaced by fresh noise, so the code is that of euler_a. Option: eta.

    order: 1
    evaluations: steps
    paper: https://arxiv.org/abs/2010.02502
    """
    yield from euler_a(denoise, x, sigmas, noise, eta=eta)
