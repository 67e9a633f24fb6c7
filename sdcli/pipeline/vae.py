"""VAE: pictures to latents and back, whole, or in windows where memory is short."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sdcli.diffusion.windows import blend, windows
from sdcli.errors import NotFinite
from sdcli.models import memory
from sdcli.models.architectures.vae import AutoencoderKL
from sdcli.models.model import Model

SIDE, OVERLAP = 64, 16  # of a window, in latents


def decode(model: Model, x: Tensor, truncates: bool = False) -> tuple[Image.Image, str | None]:
    """Latents (1, 4, h/8, w/8) -> an 8-bit RGB image of h x w pixels, and which fall-backs were needed, if any.

    Values between two bytes are rounded to the nearer one, half to even; `truncates` rounds down. A decode that is not
    finite is tried once more in float32; raises NotFinite if that fails too.
    """
    fallbacks = ["VAE in windows"] if _needs_windows(model, x.shape[-2:]) else []
    pixels = _decoded(model, x)
    if not torch.isfinite(pixels).all():
        fallbacks.append("VAE in float32")
        pixels = _decoded_in_float32(model, x)
    values = pixels[0].clamp(-1, 1) * 127.5 + 127.5
    as_bytes = (values if truncates else values.round()).to(torch.uint8)
    image = Image.fromarray(as_bytes.permute(1, 2, 0).contiguous().cpu().numpy())
    return image, ", ".join(fallbacks) or None


def _decoded_in_float32(model: Model, x: Tensor) -> Tensor:
    model.vae.float()
    try:
        pixels = _decoded(model, x, torch.float32)
    finally:
        model.vae.to(model.placement.dtype)
    if not torch.isfinite(pixels).all():
        raise NotFinite("the decoded picture is not finite, in float32 either; nothing was written")
    return pixels


@torch.inference_mode()
def _decoded(model: Model, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Latents -> pixels (1, 3, h, w) float32, not clamped."""
    scaling, shift = _scale(model)
    z = x / scaling + shift
    z = z.to(dtype or model.placement.dtype)

    def decode_window(rows: slice, columns: slice) -> Tensor:
        part = z[..., rows, columns].contiguous(memory_format=torch.channels_last)
        return (model.decode(part) if dtype is None else model.vae.decode(part)).float()

    return _in_windows(model, (z.shape[-2], z.shape[-1]), decode_window, model.factor)


@torch.inference_mode()
def encode(model: Model, pixels: Tensor, noise: Tensor | None = None) -> Tensor:
    """Pixels (1, 3, h, w) in -1 … 1 -> latents (1, 4, h/8, w/8) float32: the mean of the VAE's distribution, scaled.

    With unit noise of the shape of the latents, it is the sample mean + standard deviation * noise.
    """
    factor = model.factor
    x = pixels.to(model.placement.device, model.placement.dtype)

    def encode_window(rows: slice, columns: slice) -> Tensor:
        down, right = (slice(side.start * factor, side.stop * factor) for side in (rows, columns))
        part = x[..., down, right].contiguous(memory_format=torch.channels_last)
        if noise is None or not isinstance(model.vae, AutoencoderKL):
            return model.vae.encode(part).float().contiguous()
        mean, logvar = (each.float() for each in model.vae.moments(part))
        return (mean + (0.5 * logvar).exp() * noise[..., rows, columns]).contiguous()

    z = _in_windows(model, (x.shape[-2] // factor, x.shape[-1] // factor), encode_window)
    scaling, shift = _scale(model)
    return (z - shift) * scaling


def _scale(model: Model) -> tuple[float | Tensor, float | Tensor]:
    """(scaling, shift): latents of the U-Net are (latents of the VAE - shift) * scaling.

    They are numbers, or (1, 4, 1, 1) for a VAE that states a mean and a standard deviation of each channel.
    """
    config = model.configs["vae"]
    scaling, shift = float(config["scaling_factor"]), float(config.get("shift_factor") or 0.0)
    if config.get("latents_mean") is None:
        return scaling, shift
    mean, std = (
        torch.tensor(config[key], dtype=torch.float32, device=model.placement.device).view(1, -1, 1, 1)
        for key in ("latents_mean", "latents_std")
    )
    return scaling / std, mean + shift


def to_tensor(image: Image.Image) -> Tensor:
    """An RGB image -> (1, 3, h, w) in -1 … 1 on the CPU."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1


def grey_to_tensor(image: Image.Image) -> Tensor:
    """A grey image (a mask, a depth map) -> (1, 1, h, w) in 0 … 1 on the CPU."""
    return torch.from_numpy(np.array(image))[None, None].float() / 255


def grey_to_image(values: Tensor) -> Image.Image:
    """(1, 1, h, w) in 0 … 1 -> a grey image, rounded to bytes."""
    return Image.fromarray((values[0, 0] * 255).round().to(torch.uint8).cpu().numpy())


def _in_windows(
    model: Model, size: tuple[int, int], compute: Callable[[slice, slice], Tensor], factor: int = 1
) -> Tensor:
    """What `compute` makes of the whole latents of this size, or of windows of them where memory is short."""
    side = SIDE if _needs_windows(model, size) else max(size)
    with memory.keep_less_memory() if side > SIDE else contextlib.nullcontext():
        return blend(size, windows(*size, side, OVERLAP), lambda window: compute(*window), factor)


def _needs_windows(model: Model, size: tuple[int, ...]) -> bool:
    """True if the VAE would take more memory than is free: three of its widest layers at the size of the picture."""
    config = model.configs["vae"]
    widths = config.get("block_out_channels") or config["decoder_block_out_channels"]
    layer = max(widths[:2]) * model.factor**2 * size[0] * size[1] * model.placement.dtype.itemsize
    return max(size) > SIDE and 3 * layer > memory.free(model.placement.device)
