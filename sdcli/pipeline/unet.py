"""Predict: Model -> Predict, the only place that calls a U-Net; prediction types end here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sdcli.diffusion.conditioning import Cond
from sdcli.diffusion.types import Predict
from sdcli.diffusion.windows import blend, windows
from sdcli.models.model import Model
from sdcli.pipeline.perturb import perturbed
from sdcli.pipeline.unet_inputs import UNetInputs


def predictor(
    model: Model, beside: UNetInputs | None = None, side: int | None = None, whole: bool = False
) -> Predict:
    """The model's U-Net as (x, sigma, conds) -> one denoised estimate a cond.

    x is data + sigma * noise in float32; the conds of one picture go through the network together, in their order.
    `beside` is what the network is shown and told besides x. Where x is larger than `side` latents, it goes through in
    overlapping windows. `whole`: a level between two timesteps is told as the nearest of them, not as a fraction.
    """
    beside = beside or UNetInputs()
    channels, label = beside.channels, beside.label

    def predict(x: Tensor, sigma: float, conds: Sequence[Cond]) -> list[Tensor]:
        shown = (x / math.sqrt(sigma**2 + 1)).expand(len(conds), -1, -1, -1)
        if channels is not None:
            shown = torch.cat([shown, torch.cat([channels * (not cond.zero_concat) for cond in conds])], 1)
        size, t = (x.shape[-2], x.shape[-1]), model.levels.t(sigma)
        t = round(t) if whole else t
        places = windows(*size, side or max(size), (side or 0) // 4)
        with perturbed(model.unet, any(cond.perturb_attention for cond in conds)):
            out = blend(size, places, lambda place: call_unet(model, shown[..., *place], t, conds, label))
        return list((to_denoised[model.prediction](x, out, sigma)).split(1))

    return predict


@torch.inference_mode()
def call_unet(model: Model, x: Tensor, t: float, conds: Sequence[Cond], label: int | None = None) -> Tensor:
    """One pass of the U-Net as it was trained: x (n, channels, h/8, w/8) of unit variance, timestep t, n conds.

    `label` is the class that an x4 upscaler is told: the noise level of the picture beside x.

    Returns its prediction (n, 4, h/8, w/8) in float32, whatever the network runs in.
    """
    place = model.placement
    x = x.to(place.dtype).contiguous(memory_format=torch.channels_last)
    step = torch.tensor(t, dtype=torch.float32, device=place.device)
    context = torch.cat([cond.context for cond in conds]).to(place.dtype)
    more: dict[str, Any] = {}
    pooled = [cond.pooled for cond in conds if cond.pooled is not None]
    if pooled:
        sizes = torch.tensor([cond.time_ids for cond in conds], device=place.device)
        more["added_cond_kwargs"] = {"text_embeds": torch.cat(pooled).to(place.dtype), "time_ids": sizes}
    if label is not None:
        more["class_labels"] = torch.full((len(conds),), label, device=place.device)
    return model.unet(x, step, context, return_dict=False, **more)[0].float().contiguous()


to_denoised = {
    "epsilon": lambda x, out, sigma: x - sigma * out,
    "v_prediction": lambda x, out, sigma: x / (sigma**2 + 1) - out * (sigma / math.sqrt(sigma**2 + 1)),
    "sample": lambda x, out, sigma: out,
}
"""Prediction type -> (x, network's output, sigma) -> denoised (Salimans & Ho 2022, appendix D, in sigma)."""
