from __future__ import annotations

from typing import Any

from torch import Tensor

from sdcli.diffusion.types import Denoise, Predict


def cfg(predict: Predict, positive: Any, negative: Any, scale: float) -> Denoise:
    """Classifier-free guidance: away from the negative prompt, towards the prompt.

    Ho & Salimans 2021, in SD's scale: 0 is the negative prompt alone, 1 the prompt alone (one call of the network
    each), more is the difference enlarged.
    """
    if scale in (0, 1):
        only = positive if scale == 1 else negative
        return lambda x, sigma: predict(x, sigma, [only])[0]

    def denoise(x: Tensor, sigma: float) -> Tensor:
        against, towards = predict(x, sigma, [negative, positive])
        return against + (towards - against) * scale

    return denoise
