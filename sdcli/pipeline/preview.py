"""Preview: latents -> a small, soft picture without the VAE, by a linear map from each latent to a colour."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sdcli.models.model import Model
from sdcli.pipeline import vae

Rows = tuple[tuple[float, float, float], ...]
"""Red, green and blue in -1 … 1 for each of the four latents, as the U-Net sees them, and for a constant 1."""

TINY: Rows = (
    (-0.1051, -0.6783, -0.6104),
    (-0.1258, 0.2049, 0.4042),
    (0.3786, 0.3213, 0.2006),
    (-0.1861, 0.0396, -0.3363),
    (0.6113, 0.5347, 0.5494),
)
"""The embedded model's, fitted by scripts/preview_map.py. The mean absolute error against the decoded picture is 12 of
255 on pictures of random colours, and 9 to 17 on the estimates of steps 2 and 4 of a green tree and a cyan fish.
"""
SD: Rows = (
    (0.3512, 0.2297, 0.3227),
    (0.3250, 0.4974, 0.2350),
    (-0.2829, 0.1762, 0.2721),
    (-0.2120, -0.2616, -0.7177),
    (0.0, 0.0, 0.0),
)
"""Stable Diffusion 1 and 2's, as ComfyUI publishes them (comfy/latent_formats.py, SD15); the error is not measured."""
SDXL: Rows = (
    (0.3651, 0.4232, 0.4341),
    (-0.2533, -0.0042, 0.1068),
    (0.1076, 0.1111, -0.0362),
    (-0.3165, -0.2492, -0.2188),
    (0.1084, -0.0175, -0.0011),
)
"""SDXL's, as ComfyUI publishes them (comfy/latent_formats.py, SDXL); the error is not measured."""

_WIDTHS = [128, 256, 512, 512]  # of the VAE of Stable Diffusion 1, 2 and XL
_TINY_WIDTHS = [16, 32, 64, 112]
_BY_SCALING = {0.18215: SD, 0.13025: SDXL}

_maps: WeakKeyDictionary[Model, Tensor] = WeakKeyDictionary()


def preview(model: Model, x: Tensor) -> Image.Image:
    """Latents (1, 4, h/8, w/8) -> an 8-bit RGB image of w/8 x h/8 pixels: right in colour, without detail."""
    if model not in _maps:
        known = known_map(model)
        _maps[model] = _fitted_map(model) if known is None else torch.tensor(known)
    values = torch.cat([x[0].float(), torch.ones_like(x[0, :1])]).cpu()  # (5, h/8, w/8)
    rgb = torch.einsum("chw,cr->hwr", values, _maps[model])
    return Image.fromarray((rgb.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8).numpy())


def known_map(model: Model) -> Rows | None:
    """The map for the latents of this model's VAE, or None if they are of no known kind.

    A tiny autoencoder (TAESD) speaks the latents of the family it is used with.
    """
    config = model.configs["vae"]
    if "encoder_block_out_channels" in config:
        scaling = model.family.configs.get("vae", {}).get("scaling_factor", 0.0)
        return _BY_SCALING.get(scaling) if config["encoder_block_out_channels"] == [64] * 4 else None
    widths, scaling = list(config["block_out_channels"]), config["scaling_factor"]
    if model.family.name == "tiny" and widths == _TINY_WIDTHS and scaling == 1:
        return TINY
    return _BY_SCALING.get(scaling) if widths == _WIDTHS and not config["shift_factor"] else None


@torch.inference_mode()
def _fitted_map(model: Model) -> Tensor:
    """The map (5, 3) that comes nearest to the decoder on latents that the VAE itself makes of a picture of colours."""
    z = vae.encode(model, vae.to_tensor(_colours(64 * model.factor)))
    decoded, _ = vae.decode(model, z)
    image = decoded.resize((z.shape[3], z.shape[2]), Image.Resampling.BOX)
    rgb = torch.from_numpy(np.asarray(image).copy()).reshape(-1, 3) / 127.5 - 1
    values = torch.cat([z[0], torch.ones_like(z[0, :1])]).flatten(1).T.cpu().float()
    solution: Tensor = torch.linalg.lstsq(values, rgb, driver="gelsd").solution
    return solution


def _colours(side: int) -> Image.Image:
    """A picture of 16 x 16 colours drawn at random, with soft borders between them."""
    colours = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((side, side), Image.Resampling.BICUBIC)
