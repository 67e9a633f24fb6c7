from __future__ import annotations

from typing import Any

from torch import Tensor

from sdcli.diffusion.types import Denoise, Predict
from sdcli.diffusion.uncond import with_uncond


def cfg(predict: Predict, positive: Any, negative: Any, scale: float) -> Denoise:
    """Classifier-free guidance: away from the negative prompt, towards the prompt.

    Ho & Salimans 2021, in SD's scale: 0 is the negative prompt alone, 1 the prompt alone (one call of the network
    each), more is the difference enlarged.

    paper: https://arxiv.org/abs/2207.12598
    """

    def denoise(x: Tensor, sigma: float) -> Tensor:
        if scale == 0:
            return predict(x, sigma, [negative])[0]
        if scale == 1:
            (towards,) = predict(x, sigma, [positive])
            return with_uncond(towards, lambda: predict(x, sigma, [negative])[0])
        against, towards = predict(x, sigma, [negative, positive])
        return with_uncond(against + (towards - against) * scale, lambda: against)

    return denoise
