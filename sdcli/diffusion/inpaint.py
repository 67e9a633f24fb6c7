"""Inpainting with a model that was not trained for it: a wrapper Denoise -> Denoise."""

from __future__ import annotations

from torch import Tensor

from sdcli.diffusion.types import Denoise, Sigmas
from sdcli.diffusion.uncond import uncond_of, with_uncond


def keep_unmasked(denoise: Denoise, original_latents: Tensor, mask: Tensor, sigmas: Sigmas) -> Denoise:
    """The same denoise, but where `mask` is 0 its estimate is `original_latents`, so every sampler ends there.

    `original_latents` is the picture, (1, 4, h/8, w/8). `mask`, (1, 1, h/8, w/8) in 0 … 1, is the share of the steps,
    the last ones, in which a latent is repainted: 1 is every step, 0 is none. So a grey mask sets the strength latent
    by latent (Levin & Fried 2023, "Differential Diffusion"); with a black and white mask this is plain inpainting,
    equal step by step to mixing in the picture with noise. `sigmas` are the levels of the run.
    """
    steps = len(sigmas) - 1

    def repaint_masked(x: Tensor, sigma: float) -> Tensor:
        denoised = denoise(x, sigma)
        steps_done = sum(level >= sigma * (1 - 1e-6) for level in sigmas[1:])
        repainted = mask * steps >= steps - steps_done - 0.5
        return with_uncond(
            denoised.where(repainted, original_latents),
            lambda: uncond_of(denoised).where(repainted, original_latents),
        )

    return repaint_masked
