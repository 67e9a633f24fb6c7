from __future__ import annotations

from typing import Any

from torch import Tensor

from sdcli.diffusion.types import Denoise, Predict
from sdcli.diffusion.uncond import with_uncond


def perp_neg(predict: Predict, positive: Any, negative: Any, scale: float, *, weight: float = 1.0) -> Denoise:
    """Perp-Neg: the negative prompt takes away only what the prompt does not ask for; three evaluations as one.

    Armandpour et al. 2023, "Re-imagine the Negative Prompt Algorithm", equation 8, about the empty prompt, which the
    negative side brings along. Option: weight of the negative prompt.

    paper: https://arxiv.org/abs/2304.04968
    """

    def denoise(x: Tensor, sigma: float) -> Tensor:
        nothing, against, towards = predict(x, sigma, [negative.empty, negative, positive])
        aim, away = towards - nothing, against - nothing
        along = float((away * aim).sum() / aim.square().sum().clamp(min=1e-12))
        return with_uncond(nothing + (aim - (away - aim * along) * weight) * scale, lambda: nothing)

    return denoise
