"""Predict: Model -> Predict, the only place that calls a U-Net; prediction types end here."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sdcli.diffusion.types import Predict
from sdcli.networks.model import Cond, Model


def predictor(model: Model) -> Predict:
    """The model's U-Net as (x, sigma, conds) -> one denoised estimate a cond.

    x is data + sigma * noise in float32; the conds of one picture go through the network together, in their order.
    """

    def predict(x: Tensor, sigma: float, conds: Sequence[Cond]) -> list[Tensor]:
        scale = 1 / math.sqrt(sigma**2 + 1)
        out = unet(
            model,
            (x * scale).expand(len(conds), -1, -1, -1),
            model.levels.t(sigma),
            torch.cat([cond.context for cond in conds]),
        )
        return list((to_denoised[model.prediction](x, out, sigma)).split(1))

    return predict


@torch.inference_mode()
def unet(model: Model, x: Tensor, t: float, context: Tensor) -> Tensor:
    """One pass of the U-Net as it was trained: x (n, 4, h/8, w/8) of unit variance, timestep t, context (n, k, width).

    Returns its prediction in float32, whatever the network runs in.
    """
    place = model.place
    x = x.to(place.dtype).contiguous(memory_format=torch.channels_last)
    step = torch.tensor(t, dtype=torch.float32, device=place.device)
    return model.unet(x, step, context.to(place.dtype), return_dict=False)[0].float().contiguous()


to_denoised = {
    "epsilon": lambda x, out, sigma: x - sigma * out,
    "v_prediction": lambda x, out, sigma: x / (sigma**2 + 1) - out * (sigma / math.sqrt(sigma**2 + 1)),
    "sample": lambda x, out, sigma: out,
}
"""Prediction type -> (x, network's output, sigma) -> denoised (Salimans & Ho 2022, appendix D, in sigma)."""
