from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sdcli.diffusion.conditioning import Composed
from sdcli.diffusion.ranges import check_range
from sdcli.diffusion.types import Denoise, PredictComposed
from sdcli.diffusion.uncond import with_uncond

KERNEL = 9  # latents on each side of the blur


def sag(
    predict: PredictComposed,
    positive: Composed,
    negative: Composed,
    scale: float,
    *,
    strength: float = 0.5,
    blur: float = 2.0,
) -> Denoise:
    """Self-attention guidance on top of classifier-free guidance: away from an estimate blurred where the U-Net looks.

    Hong et al. 2023, "Improving Sample Quality of Diffusion Models Using Self-Attention Guidance", algorithm 1. The
    estimate without the prompt is blurred where the middle self-attention is above average, noised as it was, and
    estimated once more. Options: strength, and blur, the deviation in latents (2 as in ComfyUI; diffusers takes 1). At
    --cfg 1 the prompt's own estimate is blurred.

    paper: https://arxiv.org/abs/2210.00939
    """
    check_range("blur", blur, 0.1, 10)
    prompt = positive if scale == 1 else negative

    def denoise(x: Tensor, sigma: float) -> Tensor:
        if scale == 1:
            own, attention = predict(x, sigma, [positive, positive.attention])
            guided = own
        else:
            own, attention, cond = predict(x, sigma, [negative, negative.attention, positive])
            guided = own + (cond - own) * scale
        mask = (attention > 1).to(own)
        degraded = blurred(own, blur) * mask + own * (1 - mask)
        (again,) = predict(degraded + (x - own), sigma, [prompt])
        return with_uncond(
            guided + (degraded - again) * strength,
            lambda: own if scale != 1 else predict(x, sigma, [negative])[0],
        )

    return denoise


def blurred(x: Tensor, deviation: float) -> Tensor:
    """x (1, channels, h, w) blurred by a Gaussian of this deviation, mirrored at its edges."""
    side = torch.arange(KERNEL, device=x.device, dtype=x.dtype) - KERNEL // 2
    weights = torch.exp(-0.5 * (side / deviation) ** 2)
    weights = weights / weights.sum()
    kernel = (weights[:, None] * weights).expand(x.shape[1], 1, KERNEL, KERNEL)
    return F.conv2d(F.pad(x, (KERNEL // 2,) * 4, mode="reflect"), kernel, groups=x.shape[1])
