from __future__ import annotations

from torch import Tensor

from sdcli.diffusion.conditioning import Composed
from sdcli.diffusion.types import Denoise, PredictComposed
from sdcli.diffusion.uncond import with_uncond


def pix2pix(
    predict: PredictComposed, positive: Composed, negative: Composed, scale: float, *, image_cfg: float = 1.5
) -> Denoise:
    """For InstructPix2Pix models: one scale for the picture, another for the words; three estimates a step.

    Brooks et al. 2023, "InstructPix2Pix", equation 3. Option: image_cfg, how closely the picture is kept; --image-cfg
    of `sd img2img` sets it.

    paper: https://arxiv.org/abs/2211.09800
    """

    def denoise(x: Tensor, sigma: float) -> Tensor:
        nothing, picture, both = predict(x, sigma, [negative.without_concat, negative, positive])
        guided = nothing + (picture - nothing) * image_cfg + (both - picture) * scale
        return with_uncond(guided, lambda: nothing)

    return denoise
