"""Latent masks: a mask of pixels brought to the size of the latents, as each tool does it."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from sdcli.diffusion.conventions import CONVENTIONS
from sdcli.models.model import Model
from sdcli.pipeline import vae
from sdcli.request.inputs import SizedImages
from sdcli.request.job import Job

GROWN_BY = 6  # pixels; ComfyUI's VAEEncodeForInpaint


def latent_mask(model: Model, job: Job, images: SizedImages) -> Tensor:
    """The mask of the run's pictures, (1, 1, h/8, w/8) in 0 … 1 on the model's device; 1 is repainted."""
    assert images.mask is not None
    mask = vae.grey_to_tensor(images.mask)
    if job.mask.masked_content == "grey":
        mask = _grown(mask.round())
    make = _LATENT_MASKS[CONVENTIONS[job.like].latent_mask]
    return make(mask, model.factor).to(model.placement.device)


def concat_mask(mask: Tensor, word: str, factor: int) -> Tensor:
    """The mask (1, 1, h, w) as an inpainting U-Net is shown it, 0 or 1: (1, 1, h/8, w/8). `word` is the convention."""
    return (_bilinear if word == "bilinear" else _nearest)(mask, factor).round()


def without_masked_part(picture: Tensor, mask: Tensor) -> Tensor:
    """A picture (1, 3, h, w) in -1 … 1 with grey where its mask (1, 1, h, w) is 0.5 or more."""
    return picture * (1 - mask.round())


def _grown(mask: Tensor) -> Tensor:
    """A mask of 0 and 1 grown by a box, 3 pixels to the left and top and 2 to the right and bottom."""
    box = torch.ones(1, 1, GROWN_BY, GROWN_BY)
    return F.conv2d(mask, box, padding=GROWN_BY // 2).clamp(0, 1)[..., : mask.shape[-2], : mask.shape[-1]]


def _any_pixel(mask: Tensor, factor: int) -> Tensor:
    """A latent is repainted as much as the lightest of its pixels."""
    return F.max_pool2d(mask, factor)


def _bilinear(mask: Tensor, factor: int) -> Tensor:
    """The mean of the four pixels in the middle of each latent, as torch interpolates."""
    return F.interpolate(mask, [side // factor for side in mask.shape[-2:]], mode="bilinear")


def _rounded(mask: Tensor, factor: int) -> Tensor:
    """Pillow's bicubic filter, rounded to 0 or 1."""
    height, width = (side // factor for side in mask.shape[-2:])
    image = vae.grey_to_image(mask).resize((width, height), resample=3)  # bicubic
    return vae.grey_to_tensor(image).round()


def _nearest(mask: Tensor, factor: int) -> Tensor:
    """The pixel at the top left of each latent, rounded to 0 or 1."""
    return F.interpolate((mask >= 0.5).float(), [side // factor for side in mask.shape[-2:]], mode="nearest")


_LATENT_MASKS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "any_pixel": _any_pixel,
    "bilinear": _bilinear,
    "rounded": _rounded,
    "nearest": _nearest,
}
"""The word of Conventions.latent_mask -> (mask (1, 1, h, w), pixels per latent) -> (1, 1, h/8, w/8)."""
