"""Pixels: to and from latents through the VAE, whole, or in windows where memory is short."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sdcli.diffusion.windows import blend, windows
from sdcli.errors import NotFinite
from sdcli.models import device, memory
from sdcli.models.model import Model

SIDE, OVERLAP = 64, 16  # of a window, in latents


def decode(model: Model, x: Tensor, truncates: bool = False) -> tuple[Image.Image, str | None]:
    """Latents (1, 4, h/8, w/8) -> an 8-bit RGB image of h x w pixels, and the fall-backs that were needed, if any.

    Values between two bytes go to the nearer one, half to even, or with `truncates` to the lower one. A
    decode that is not finite is tried once more in float32; NotFinite if that is no better.
    """
    fallbacks = ["VAE in windows"] if _crowded(model, x.shape[-2:]) else []
    pixels = _decoded(model, x)
    if not torch.isfinite(pixels).all():
        fallbacks.append("VAE in float32")
        model.vae.float()
        try:
            pixels = _decoded(model, x, torch.float32)
        finally:
            model.vae.to(model.placement.dtype)
        if not torch.isfinite(pixels).all():
            raise NotFinite("the decoded picture is not finite, in float32 either; nothing was written")
    values = pixels[0].clamp(-1, 1) * 127.5 + 127.5
    bytes_ = (values if truncates else values.round()).to(torch.uint8)
    image = Image.fromarray(bytes_.permute(1, 2, 0).contiguous().cpu().numpy())
    return image, ", ".join(fallbacks) or None


@torch.inference_mode()
def _decoded(model: Model, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    config = model.config("vae")
    z = x / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
    z = z.to(dtype or model.placement.dtype)

    def made(part: Tensor) -> Tensor:
        return model.vae.decode(part.contiguous(memory_format=torch.channels_last), return_dict=False)[
            0
        ].float()

    size = (z.shape[-2], z.shape[-1])
    return _in_parts(model, size, lambda rows, columns: made(z[..., rows, columns]), model.factor)


@torch.inference_mode()
def encode(model: Model, pixels: Tensor) -> Tensor:
    """Pixels (1, 3, h, w) in -1 … 1 -> latents (1, 4, h/8, w/8) float32: the mean that the VAE gives, scaled."""
    config, factor = model.config("vae"), model.factor
    x = pixels.to(model.placement.device, model.placement.dtype)

    def made(rows: slice, columns: slice) -> Tensor:
        part = x[
            ..., rows.start * factor : rows.stop * factor, columns.start * factor : columns.stop * factor
        ]
        encoded = model.vae.encode(part.contiguous(memory_format=torch.channels_last))
        mean: Tensor = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
        return mean.float().contiguous()

    mean = _in_parts(model, (x.shape[-2] // factor, x.shape[-1] // factor), made)
    return (mean - (getattr(config, "shift_factor", None) or 0.0)) * config.scaling_factor


def of(image: Image.Image) -> Tensor:
    """An RGB image -> (1, 3, h, w) in -1 … 1 on the CPU."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1


def of_grey(image: Image.Image) -> Tensor:
    """A grey image (a mask, a depth map) -> (1, 1, h, w) in 0 … 1 on the CPU."""
    return torch.from_numpy(np.array(image))[None, None].float() / 255


def _in_parts(
    model: Model, size: tuple[int, int], made: Callable[[slice, slice], Tensor], factor: int = 1
) -> Tensor:
    side = SIDE if _crowded(model, size) else max(size)
    with device.sparing() if side > SIDE else contextlib.nullcontext():
        return blend(size, windows(*size, side, OVERLAP), lambda window: made(*window), factor)


def _crowded(model: Model, size: tuple[int, ...]) -> bool:
    """Whether the VAE would take more memory than is free: three of its widest layers at the size of the picture."""
    config = model.config("vae")
    widths = config.get("block_out_channels") or config["decoder_block_out_channels"]
    layer = max(widths[:2]) * model.factor**2 * size[0] * size[1] * model.placement.dtype.itemsize
    return max(size) > SIDE and 3 * layer > memory.free(model.placement.device)
