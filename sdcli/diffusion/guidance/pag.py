from __future__ import annotations

from torch import Tensor

from sdcli.diffusion.conditioning import Composed
from sdcli.diffusion.types import Denoise, PredictComposed
from sdcli.diffusion.uncond import with_uncond


def pag(
    predict: PredictComposed, positive: Composed, negative: Composed, scale: float, *, strength: float = 3.0
) -> Denoise:
    """Perturbed-attention guidance on top of classifier-free guidance: away from an estimate without structure.

    Ahn et al. 2024, "Self-Rectifying Diffusion Sampling with Perturbed-Attention Guidance", equation 16. Each step asks
    the network once more, with its middle self-attention replaced by the identity. Option: strength; at --cfg 1 it
    guides alone.

    paper: https://arxiv.org/abs/2403.17377
    """

    def denoise(x: Tensor, sigma: float) -> Tensor:
        (perturbed,) = predict(x, sigma, [positive.perturbed])
        if scale == 1:
            (cond,) = predict(x, sigma, [positive])
            return with_uncond(cond + (cond - perturbed) * strength, lambda: predict(x, sigma, [negative])[0])
        uncond, cond = predict(x, sigma, [negative, positive])
        guided = uncond + (cond - uncond) * scale + (cond - perturbed) * strength
        return with_uncond(guided, lambda: uncond)

    return denoise
