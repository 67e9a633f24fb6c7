"""Hires: what the first pass of `--hires` leaves, enlarged, as the start of the second pass."""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from PIL.Image import Image
from torch import Tensor

from sdcli.checkpoints.upscaler_file import read_header
from sdcli.models import upscaler
from sdcli.models.device import Placement
from sdcli.models.memory import memory_errors
from sdcli.models.model import Model
from sdcli.pipeline import vae
from sdcli.pipeline.enlarge import enlarge_image
from sdcli.request.inputs import SizedImages
from sdcli.request.job import Job


def second_pass(
    model: Model, job: Job, images: SizedImages, x: Tensor
) -> tuple[Job, SizedImages, Tensor | None]:
    """(the job of the second pass, the picture that it starts from, or the latents), `hires` times larger on each side.

    The picture is enlarged with Lanczos' filter, or by the network of an upscaler file and then to the size; latents
    bicubically: enlarged latents hold nothing sharp, and need a strength of 0.5 or more.
    """
    width, height = job.second_size
    larger = job.enlarged(width, height)
    if job.hires.hires_by == "latents":
        size = (height // model.factor, width // model.factor)
        return (
            larger,
            SizedImages(inputs=images.inputs),
            F.interpolate(x, size, mode="bicubic", align_corners=False),
        )
    image, _ = vae.decode(model, x)
    if job.hires.hires_upscaler:
        image = _by_network(image, Path(job.hires.hires_upscaler), model.placement)
    return larger, SizedImages(image.resize((width, height), resample=1), inputs=images.inputs), None


def _by_network(image: Image, path: Path, placement: Placement) -> Image:
    """The image enlarged by the network of an upscaler file, which is loaded for it and let go of."""
    network = upscaler.load(read_header(path), placement)
    with memory_errors(
        f"enlarging the picture by {path.name}", "choose a smaller --hires, or --hires-by picture"
    ):
        return enlarge_image(image, None, network, placement)
