from __future__ import annotations

from typing import Any

from torch import Tensor

from sdcli.diffusion.types import Denoise, Predict
from sdcli.diffusion.uncond import with_uncond


def pix2pix(
    predict: Predict, positive: Any, negative: Any, scale: float, *, image_cfg: float = 1.5
) -> Denoise:
    """For InstructPix2Pix models: towards the picture by one scale, towards the words by another; three evaluations.

    Brooks et al. 2023, "InstructPix2Pix", equation 3. image_cfg: how closely the picture is kept; --image-cfg of
    `sd img2img` sets it.

    paper: https://arxiv.org/abs/2211.09800
    """

    def denoise(x: Tensor, sigma: float) -> Tensor:
        nothing, seen, towards = predict(x, sigma, [negative.unseen, negative, positive])
        return with_uncond(nothing + (seen - nothing) * image_cfg + (towards - seen) * scale, lambda: nothing)

    return denoise
