from __future__ import annotations

from typing import Any

from torch import Tensor

from sdcli.diffusion.types import Denoise, Predict
from sdcli.diffusion.uncond import with_uncond


def pag(predict: Predict, positive: Any, negative: Any, scale: float, *, strength: float = 3.0) -> Denoise:
    """Perturbed-attention guidance beside the classifier-free one: away from a picture without structure.

    Ahn et al. 2024, "Self-Rectifying Diffusion Sampling with Perturbed-Attention Guidance", equation 16. The network is
    asked once more a step, with its middle self-attention cut. Option: strength; at --cfg 1 it guides alone.

    paper: https://arxiv.org/abs/2403.17377
    """

    def denoise(x: Tensor, sigma: float) -> Tensor:
        (shapeless,) = predict(x, sigma, [positive.perturbed])
        if scale == 1:
            (towards,) = predict(x, sigma, [positive])
            return with_uncond(
                towards + (towards - shapeless) * strength, lambda: predict(x, sigma, [negative])[0]
            )
        against, towards = predict(x, sigma, [negative, positive])
        guided = against + (towards - against) * scale + (towards - shapeless) * strength
        return with_uncond(guided, lambda: against)

    return denoise
