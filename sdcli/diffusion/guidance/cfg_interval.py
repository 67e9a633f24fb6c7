from __future__ import annotations

from torch import Tensor

from sdcli.diffusion.conditioning import Composed
from sdcli.diffusion.guidance.cfg import cfg
from sdcli.diffusion.types import Denoise, PredictComposed


def cfg_interval(
    predict: PredictComposed,
    positive: Composed,
    negative: Composed,
    scale: float,
    *,
    high: float = 5.42,
    low: float = 0.28,
) -> Denoise:
    """Classifier-free guidance between two noise levels, the prompt alone outside them; more variety, less glare.

    Kynkäänniemi et al. 2024, "Applying Guidance in a Limited Interval", with their levels for SDXL. Outside the
    interval the network is asked for the prompt only. Options: the levels high and low; low itself is outside.

    paper: https://arxiv.org/abs/2404.07724
    """
    inside, outside = cfg(predict, positive, negative, scale), cfg(predict, positive, negative, 1)

    def denoise(x: Tensor, sigma: float) -> Tensor:
        return inside(x, sigma) if low < sigma <= high else outside(x, sigma)

    return denoise
