from __future__ import annotations

from torch import Tensor

from sdcli.diffusion.conditioning import Composed
from sdcli.diffusion.types import Denoise, PredictComposed
from sdcli.diffusion.uncond import with_uncond


def cfg(predict: PredictComposed, positive: Composed, negative: Composed, scale: float) -> Denoise:
    """Classifier-free guidance: away from the negative prompt, towards the prompt.

    Ho & Salimans 2021, with the scale as Stable Diffusion counts it: negative + scale * (positive - negative). Scale 0
    is the negative prompt alone, 1 the prompt alone; each of these asks the network for one prompt only.

    paper: https://arxiv.org/abs/2207.12598
    """

    def denoise(x: Tensor, sigma: float) -> Tensor:
        if scale == 0:
            return predict(x, sigma, [negative])[0]
        if scale == 1:
            (cond,) = predict(x, sigma, [positive])
            return with_uncond(cond, lambda: predict(x, sigma, [negative])[0])
        uncond, cond = predict(x, sigma, [negative, positive])
        return with_uncond(uncond + (cond - uncond) * scale, lambda: uncond)

    return denoise
