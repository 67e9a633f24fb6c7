"""Inpainting with a model that was not trained for it: wrappers Denoise -> Denoise."""

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


def mix_unmasked(
    denoise: Denoise, original_latents: Tensor, mask: Tensor, noise: Tensor, pure_at: float | None = None
) -> Denoise:
    """The same denoise, whose network sees the noised picture where `mask` is 0: ComfyUI's and diffusers' inpainting.

    At each level the network is given x * mask + (picture + sigma * noise) * (1 - mask), with the same unit noise each
    time, whatever a sampler has added to x; its estimate is mixed with the picture by the same mask. ComfyUI's
    KSamplerX0Inpaint. diffusers mixes x after each step, which shows the network the same, but not before the first:
    at level `pure_at` x stays as it is. The unguided estimate is the network's own.
    """

    def mixed(x: Tensor, sigma: float) -> Tensor:
        if sigma != pure_at:
            x = x * mask + (original_latents + noise * sigma) * (1 - mask)
        denoised = denoise(x, sigma)
        return with_uncond(denoised * mask + original_latents * (1 - mask), lambda: uncond_of(denoised))

    return mixed
