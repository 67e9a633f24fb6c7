"""Hold: keep a part of the picture as it was, while the rest is drawn: Denoise -> Denoise."""

from __future__ import annotations

from torch import Tensor

from sdcli.diffusion.types import Denoise, Sigmas
from sdcli.diffusion.uncond import uncond_of, with_uncond


def keep_unmasked(denoise: Denoise, kept: Tensor, free: Tensor, sigmas: Sigmas) -> Denoise:
    """The same denoise, but where `free` is 0 its estimate is `kept`, so that a sampler brings x there of itself.

    `kept` are the latents of the picture (1, 4, h/8, w/8), `free` says in 0 … 1 how free each place is (1, 1, h/8,
    w/8): 1 is drawn at every step, and a place in between at that part of the steps, the last ones. So a mask in grey
    says strength by strength how much is redrawn (Levin & Fried 2023, "Differential Diffusion"); one in black and
    white is plain inpainting, step by step what mixing in the noised picture gives.
    """
    total = len(sigmas) - 1

    def held(x: Tensor, sigma: float) -> Tensor:
        denoised = denoise(x, sigma)
        past = sum(level >= sigma * (1 - 1e-6) for level in sigmas[1:])  # steps behind
        drawn = free * total >= total - past - 0.5
        return with_uncond(denoised.where(drawn, kept), lambda: uncond_of(denoised).where(drawn, kept))

    return held
