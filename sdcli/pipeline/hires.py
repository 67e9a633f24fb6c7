"""Hires: what a finished run leaves, enlarged, for a second run over it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from sdcli.models.model import Model
from sdcli.pipeline import vae
from sdcli.request.inputs import SizedImages
from sdcli.request.request import Request


def enlarged(model: Model, request: Request, x: Tensor) -> tuple[Request, SizedImages, Tensor | None]:
    """(the second run's request, the picture it starts from, or the latents), `hires` times larger each way.

    The picture is enlarged by Lanczos' filter, latents bicubically: those keep nothing sharp, and want a strength of
    0.5 and more.
    """
    width, height = (round((side or 0) * request.hires / 8) * 8 for side in (request.width, request.height))
    larger = request.replace(width=width, height=height, strength=request.hires_strength, latents_in=None)
    if request.hires_by == "latents":
        size = (height // model.factor, width // model.factor)
        return larger, SizedImages(), F.interpolate(x, size, mode="bicubic", align_corners=False)
    image, _ = vae.decode(model, x)
    return larger, SizedImages(image.resize((width, height), resample=1)), None
