from __future__ import annotations

from typing import Any

from torch import Tensor

from sdcli.diffusion.guidance.cfg import cfg
from sdcli.diffusion.types import Denoise, Predict


def cfg_interval(
    predict: Predict, positive: Any, negative: Any, scale: float, *, high: float = 5.42, low: float = 0.28
) -> Denoise:
    """Classifier-free guidance between two noise levels only, the prompt alone outside; more variety, less glare.

    Kynkäänniemi et al. 2024, "Applying Guidance in a Limited Interval", with their levels for SDXL. One call of the
    network outside. Options: the levels high and low.

    paper: https://arxiv.org/abs/2404.07724
    """
    inside, outside = cfg(predict, positive, negative, scale), cfg(predict, positive, negative, 1)

    def denoise(x: Tensor, sigma: float) -> Tensor:
        return inside(x, sigma) if low < sigma <= high else outside(x, sigma)

    return denoise
