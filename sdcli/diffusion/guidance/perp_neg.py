from __future__ import annotations

from torch import Tensor

from sdcli.diffusion.conditioning import Composed
from sdcli.diffusion.types import Denoise, PredictComposed
from sdcli.diffusion.uncond import with_uncond


def perp_neg(
    predict: PredictComposed, positive: Composed, negative: Composed, scale: float, *, weight: float = 1.0
) -> Denoise:
    """Perp-Neg: the negative prompt removes only what the prompt does not ask for; three estimates a step.

    Armandpour et al. 2023, "Re-imagine the Negative Prompt Algorithm", equation 8; both prompts are compared with the
    empty prompt. Option: weight of the negative prompt.

    paper: https://arxiv.org/abs/2304.04968
    """

    def denoise(x: Tensor, sigma: float) -> Tensor:
        empty, against, towards = predict(x, sigma, [negative.empty, negative, positive])
        wanted, unwanted = towards - empty, against - empty
        share = float((unwanted * wanted).sum() / wanted.square().sum().clamp(min=1e-12))
        perpendicular = unwanted - wanted * share
        return with_uncond(empty + (wanted - perpendicular * weight) * scale, lambda: empty)

    return denoise
