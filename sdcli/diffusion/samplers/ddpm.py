from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from sdcli.diffusion.samplers.euler_a import euler_a
from sdcli.diffusion.types import Denoise, Noise, Sigmas


def ddpm(
    denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise, *, s_noise: float = 1.0
) -> Iterator[Tensor]:
    """DDPM: the posterior of the forward process with its smaller variance; one evaluation a step, needs many steps.

    Ho et al. 2020, equations 6 and 7. In sigma it is Euler's ancestral step with eta 1. Option: s_noise, a factor on
    the noise.

    order: 1
    evaluations: steps
    paper: https://arxiv.org/abs/2006.11239
    """
    yield from euler_a(denoise, x, sigmas, noise, s_noise=s_noise)
