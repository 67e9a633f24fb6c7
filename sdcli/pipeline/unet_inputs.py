"""UNetInputs: what a network is shown and told besides x; how many input channels it has says what."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sdcli.diffusion.levels import Levels
from sdcli.diffusion.types import Noise
from sdcli.errors import ModelError
from sdcli.models.model import Model
from sdcli.pipeline import vae
from sdcli.pipeline.depth import estimate
from sdcli.request.inputs import SizedImages
from sdcli.request.request import Request
from sdcli.request.resize import fit_image


@dataclass(frozen=True)
class UNetInputs:
    """Channels beside x (1, k, h/8, w/8) and a class, if a network takes them.

    `redraws` says whether a run starts from a picture's latents; `masked` whether the network is shown the mask.
    """

    channels: Tensor | None = None
    label: int | None = None
    redraws: bool = True
    masked: bool = False


def beside(
    model: Model, request: Request, layout: SizedImages, noise: Noise, shape: tuple[int, ...]
) -> UNetInputs:
    """What the model's network takes of the pictures; raises ModelError if it needs one that is not there."""
    return _KINDS[model.family.signature.channels - shape[1]](model, request, layout, noise, shape)


def _nothing(
    model: Model, request: Request, layout: SizedImages, noise: Noise, shape: tuple[int, ...]
) -> UNetInputs:
    return UNetInputs()


def _depth(
    model: Model, request: Request, layout: SizedImages, noise: Noise, shape: tuple[int, ...]
) -> UNetInputs:
    """The depth map that was given, or what is estimated of the picture, smallest -1 and largest 1; near is large."""
    if layout.depth is not None:
        depth = vae.of_grey(layout.depth)
    elif layout.image is not None:
        depth = estimate(model, layout.image)
    else:
        raise _missing(model, "a picture or a depth map; give it to sd depth2img")
    depth = F.interpolate(depth, shape[2:], mode="bicubic", align_corners=False)
    low, high = depth.min(), depth.max()
    return UNetInputs((2 * (depth - low) / (high - low).clamp(min=1e-6) - 1).to(model.placement.device))


def _small(
    model: Model, request: Request, layout: SizedImages, noise: Noise, shape: tuple[int, ...]
) -> UNetInputs:
    """The picture to enlarge, a pixel a latent, with noise of the level that the network is told as its class."""
    if layout.inputs.picture is None:
        raise _missing(model, "a picture to enlarge; give it to sd upscale")
    small = fit_image(layout.inputs.picture.image, shape[3], shape[2], request.fit)
    sigma = Levels.scaled_linear(0.0001, 0.02).table[request.noise_level]
    noisy = vae.of(small).to(model.placement.device) + noise(0.0, 0.0)[:, :3] * sigma
    return UNetInputs(noisy / math.sqrt(1 + sigma**2), request.noise_level, redraws=False)


def _picture(
    model: Model, request: Request, layout: SizedImages, noise: Noise, shape: tuple[int, ...]
) -> UNetInputs:
    """The picture to edit, as the VAE's mean, not scaled."""
    if layout.image is None:
        raise _missing(model, "a picture to edit; give it to sd img2img -i")
    z = vae.encode(model, vae.of(layout.image))
    return UNetInputs(z / model.vae.config.scaling_factor, redraws=False)


def _masked(
    model: Model, request: Request, layout: SizedImages, noise: Noise, shape: tuple[int, ...]
) -> UNetInputs:
    """The mask, and the picture with grey in its place; without one everything is to be painted."""
    if layout.image is None or layout.mask is None:
        shown = torch.zeros((1, 3, shape[2] * model.factor, shape[3] * model.factor))
        mask = torch.ones((1, 1, *shape[2:]))
    else:
        white = (vae.of_grey(layout.mask) >= 0.5).float()
        shown = vae.of(layout.shown or layout.image) * (1 - white)
        mask = F.interpolate(white, shape[2:], mode="nearest")
    z = vae.encode(model, shown)
    return UNetInputs(torch.cat([mask.to(z), z], 1), masked=True)


def _missing(model: Model, what: str) -> ModelError:
    return ModelError(f"{model.name}: a {model.family.name} model needs {what}")


_KINDS: dict[int, Callable[[Model, Request, SizedImages, Noise, tuple[int, ...]], UNetInputs]] = {
    0: _nothing,
    1: _depth,
    3: _small,
    4: _picture,
    5: _masked,
}
"""Channels beside those of x -> what they are."""
