from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from sdcli.diffusion.samplers.res_multistep import multistep
from sdcli.diffusion.types import Denoise, Noise, Sigmas
from sdcli.diffusion.uncond import uncond_of


def res_multistep_cfg_pp(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sigmas,
    noise: Noise,
    *,
    eta: float = 0.0,
    s_noise: float = 1.0,
    from_down: bool = False,
) -> Iterator[Tensor]:
    """RES multistep with CFG++: what guidance adds, then an unguided step; one evaluation a step, for --cfg 0 to 2.

    Chung et al. 2024, "CFG++: Manifold-constrained Classifier Free Guidance", as in ComfyUI. Second order. Options:
    eta, the share of fresh noise (1 is ComfyUI's `res_multistep_ancestral_cfg_pp`); s_noise, a factor on it; from_down,
    as for res_multistep.

    order: 2
    evaluations: steps
    paper: https://arxiv.org/abs/2406.08070
    """
    yield from multistep(denoise, x, sigmas, noise, uncond_of, eta, s_noise, from_down)
