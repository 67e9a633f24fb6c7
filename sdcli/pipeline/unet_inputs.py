"""UNetInputs: what the U-Net is given besides the latents; the number of its input channels decides what.

4 channels: nothing more. 5: a depth map. 7: the small picture that an x4 upscaler enlarges. 8: the picture that an
InstructPix2Pix model edits. 9: a mask and the masked picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sdcli.diffusion.conventions import CONVENTIONS
from sdcli.diffusion.levels import DDPM_BETAS, Levels
from sdcli.diffusion.unet_call import UNetCall
from sdcli.errors import ModelError
from sdcli.models.architectures.unet import Residuals
from sdcli.models.model import Model
from sdcli.pipeline import depth, vae
from sdcli.pipeline.draws import Draws
from sdcli.pipeline.latent_mask import concat_mask, without_masked_part
from sdcli.request.inputs import SizedImages
from sdcli.request.job import Job

Control = Callable[[UNetCall], Residuals | None]
"""ControlNet, T2I-Adapter: a call of the U-Net -> what is added to the U-Net in it; None adds nothing."""


@dataclass(frozen=True)
class UNetInputs:
    """`concat` (1, k, h/8, w/8) is concatenated to the latents; `class_label` is the noise level of an x4 upscaler.

    `guidance_scale` is what the U-Net of a latent consistency model is told. `redraws` is true if a run over a picture
    starts from its latents, `has_mask` if the U-Net itself sees the mask.
    """

    concat: Tensor | None = None
    class_label: int | None = None
    guidance_scale: float | None = None
    redraws: bool = True
    has_mask: bool = False
    controls: tuple[Control, ...] = ()


@dataclass(frozen=True)
class _Sources:
    """What the inputs of the U-Net are made from."""

    model: Model
    job: Job
    images: SizedImages
    draws: Draws
    shape: tuple[int, ...]  # of the latents


def unet_inputs(
    model: Model, job: Job, images: SizedImages, draws: Draws, shape: tuple[int, ...]
) -> UNetInputs:
    """The inputs of the model's U-Net for latents of this shape; raises ModelError if a picture is missing."""
    make = _BY_EXTRA_CHANNELS[model.family.signature.channels - shape[1]]
    return make(_Sources(model, job, images, draws, shape))


def _no_inputs(sources: _Sources) -> UNetInputs:
    return UNetInputs()


def _depth_map(sources: _Sources) -> UNetInputs:
    """The depth map that was given or is estimated, scaled to -1 … 1; near is large."""
    model, images = sources.model, sources.images
    if images.depth is not None:
        values = vae.grey_to_tensor(images.depth)
    elif images.image is not None:
        values = depth.estimate(model, images.image)
    else:
        raise _lacks_picture(model)
    values = F.interpolate(values, sources.shape[2:], mode="bicubic", align_corners=False)
    low, high = values.min(), values.max()
    scaled = 2 * (values - low) / (high - low).clamp(min=1e-6) - 1
    return UNetInputs(scaled.to(model.placement.device))


def _small_picture(sources: _Sources) -> UNetInputs:
    """The picture to enlarge, one pixel per latent, with noise of the level that the U-Net is told as its class."""
    model, job, images = sources.model, sources.job, sources.images
    height, width = sources.shape[2:]
    small = images.small_picture((width, height), job.fit)
    if small is None:
        raise _lacks_picture(model)
    sigma = Levels.scaled_linear(*DDPM_BETAS).table[job.noise_level]
    assert sources.draws.small_picture is not None
    noisy = vae.to_tensor(small).to(model.placement.device) + sources.draws.small_picture * sigma
    return UNetInputs(noisy / math.sqrt(1 + sigma**2), class_label=job.noise_level, redraws=False)


def _picture_to_edit(sources: _Sources) -> UNetInputs:
    """The latents of the picture to edit, not scaled."""
    model, images = sources.model, sources.images
    if images.image is None:
        raise _lacks_picture(model)
    latents = vae.encode(model, vae.to_tensor(images.image))
    return UNetInputs(latents / model.configs["vae"]["scaling_factor"], redraws=False)


def _mask_and_masked_picture(sources: _Sources) -> UNetInputs:
    """The mask, and the latents of the picture with grey in its place; without a mask, everything is repainted."""
    model, images, shape = sources.model, sources.images, sources.shape
    if images.image is None or images.mask is None:
        picture = torch.zeros((1, 3, shape[2] * model.factor, shape[3] * model.factor))
        mask = torch.ones((1, 1, *shape[2:]))
    else:
        pixel_mask = vae.grey_to_tensor(images.mask)
        picture = without_masked_part(vae.to_tensor(images.shown or images.image), pixel_mask)
        mask = concat_mask(pixel_mask, CONVENTIONS[sources.job.like].latent_mask, model.factor)
    latents = vae.encode(model, picture, sources.draws.masked_picture)
    return UNetInputs(torch.cat([mask.to(latents), latents], 1), has_mask=True)


def missing(name: str, family: str, what: str) -> ModelError:
    """The error of a model, of this name and family, that is not given what it needs."""
    return ModelError(f"{name}: a {family} model needs {what}")


def _lacks_picture(model: Model) -> ModelError:
    return missing(model.name, model.family.name, NEEDED_PICTURE[model.family.signature.channels - 4])


NEEDED_PICTURE = {
    1: "a picture or a depth map; give it to sd depth2img",
    3: "a picture to enlarge; give it to sd upscale",
    4: "a picture to edit; give it to sd img2img -i",
}
"""Input channels of a U-Net beside those of the latents -> the picture that it cannot do without."""

REDRAWING = (0, 1, 5)
"""Those of the U-Nets with which a run over a picture starts from its latents."""


_BY_EXTRA_CHANNELS: dict[int, Callable[[_Sources], UNetInputs]] = {
    0: _no_inputs,
    1: _depth_map,
    3: _small_picture,
    4: _picture_to_edit,
    5: _mask_and_masked_picture,
}
