"""Hires: what the first pass of `--hires` leaves, enlarged, as the start of the second pass."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from sdcli.models.model import Model
from sdcli.pipeline import vae
from sdcli.request.inputs import SizedImages
from sdcli.request.job import Job


def second_pass(
    model: Model, job: Job, images: SizedImages, x: Tensor
) -> tuple[Job, SizedImages, Tensor | None]:
    """(the job of the second pass, the picture that it starts from, or the latents), `hires` times larger on each side.

    The picture is enlarged with Lanczos' filter, latents bicubically: enlarged latents hold nothing sharp, and need a
    strength of 0.5 or more.
    """
    width, height = (round(side * job.hires.hires / 8) * 8 for side in (job.width, job.height))
    larger = job.enlarged(width, height)
    if job.hires.hires_by == "latents":
        size = (height // model.factor, width // model.factor)
        return (
            larger,
            SizedImages(inputs=images.inputs),
            F.interpolate(x, size, mode="bicubic", align_corners=False),
        )
    image, _ = vae.decode(model, x)
    return larger, SizedImages(image.resize((width, height), resample=1), inputs=images.inputs), None
