"""Latents: to pictures through the VAE, and to and from safetensors files."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sdcli.errors import ImageError, NotFinite
from sdcli.networks.model import Model


def decode(model: Model, x: Tensor) -> tuple[Image.Image, str | None]:
    """Latents (1, 4, h/8, w/8) -> an 8-bit RGB image of h x w pixels, and the fall-back that was needed, if any.

    A decode that is not finite is tried once more in float32; NotFinite if that is no better.
    """
    pixels, fallback = _decoded(model, x), None
    if not torch.isfinite(pixels).all():
        fallback = "VAE in float32"
        model.vae.float()
        try:
            pixels = _decoded(model, x, torch.float32)
        finally:
            model.vae.to(model.place.dtype)
        if not torch.isfinite(pixels).all():
            raise NotFinite("the decoded picture is not finite, in float32 either; nothing was written")
    bytes_ = (pixels[0].clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)  # half to even, as diffusers
    return Image.fromarray(bytes_.permute(1, 2, 0).contiguous().cpu().numpy()), fallback


@torch.inference_mode()
def _decoded(model: Model, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    config = model.vae.config
    z = x / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
    z = z.to(dtype or model.place.dtype).contiguous(memory_format=torch.channels_last)
    return model.vae.decode(z, return_dict=False)[0].float()


@torch.inference_mode()
def encode(model: Model, pixels: Tensor) -> Tensor:
    """Pixels (1, 3, h, w) in -1 … 1 -> latents (1, 4, h/8, w/8) float32: the mean that the VAE gives, scaled."""
    config = model.vae.config
    x = pixels.to(model.place.device, model.place.dtype).contiguous(memory_format=torch.channels_last)
    encoded = model.vae.encode(x)
    mean = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
    return (
        mean.float().contiguous() - (getattr(config, "shift_factor", None) or 0.0)
    ) * config.scaling_factor


def pixels(image: Image.Image) -> Tensor:
    """An RGB image -> (1, 3, h, w) in -1 … 1 on the CPU."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1


def values(image: Image.Image) -> Tensor:
    """A grey image (a mask, a depth map) -> (1, 1, h, w) in 0 … 1 on the CPU."""
    return torch.from_numpy(np.array(image))[None, None].float() / 255


def to_file(x: Tensor, sigma: float) -> bytes:
    """Latents as a safetensors file: float32 `latents`, and the noise level they stand at as metadata."""
    return save({"latents": x.float().cpu().contiguous()}, {"format": "pt", "sigma": repr(sigma)})


def read(path: str, shape: tuple[int, ...], factor: int = 8) -> tuple[Tensor, float | None]:
    """The latents in a file and their noise level; None means unit noise, as other tools write it.

    Raises ImageError if the file is not one, or not of this shape, or not finite.
    """
    try:
        with safe_open(path, framework="pt") as file:
            told = (file.metadata() or {}).get("sigma")
            names = list(file.keys())
            if names != ["latents"]:
                raise ImageError(
                    f"{path}: holds {', '.join(names[:3]) or 'nothing'}, not one tensor `latents`"
                )
            x = file.get_tensor("latents")
    except FileNotFoundError:
        raise ImageError(f"{path}: there is no such file") from None
    except (SafetensorError, OSError) as error:
        raise ImageError(
            f"{path}: not a safetensors file that can be read ({str(error).splitlines()[0]})"
        ) from None
    if tuple(x.shape) != shape:
        need = f"{shape} for {shape[3] * factor}x{shape[2] * factor} pixels"
        raise ImageError(f"{path}: latents are {tuple(x.shape)}, not {need}; give their --width and --height")
    if not x.is_floating_point() or not torch.isfinite(x).all():
        raise ImageError(f"{path}: latents are not finite numbers")
    try:
        sigma = float(told) if told is not None else None
    except ValueError:
        sigma = math.nan
    if sigma is not None and not 0 <= sigma < math.inf:
        raise ImageError(f"{path}: its noise level {told!r} is not a number of 0 or more")
    return x.float(), sigma


def from_level(path: str, sigma: float, sigmas: Sequence[float]) -> list[float]:
    """The rest of a run that stands at sigma: the levels from it on. At 0 nothing is left but decoding."""
    for i, level in enumerate(sigmas):
        if math.isclose(level, sigma, rel_tol=1e-6):
            return list(sigmas[i:])
    near = min(sigmas, key=lambda level: abs(level - sigma))
    raise ImageError(
        f"{path}: stands at noise level {sigma:g}, which this run does not visit (nearest {near:g})"
    )
