"""Preview: latents -> a small, soft picture without the VAE, by a linear map that is fitted to the VAE once."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sdcli.models.model import Model
from sdcli.pipeline import vae

_maps: WeakKeyDictionary[Model, Tensor] = WeakKeyDictionary()


def preview(model: Model, x: Tensor) -> Image.Image:
    """Latents (1, 4, h/8, w/8) -> an 8-bit RGB image of w/8 x h/8 pixels: right in colour, without detail."""
    if model not in _maps:
        _maps[model] = _fitted_map(model)
    values = torch.cat([x[0].float(), torch.ones_like(x[0, :1])]).cpu()  # (5, h/8, w/8)
    rgb = torch.einsum("chw,cr->hwr", values, _maps[model])
    return Image.fromarray((rgb.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8).numpy())


@torch.inference_mode()
def _fitted_map(model: Model) -> Tensor:
    """The map (5, 3) from latents and 1 to red, green and blue that comes nearest to the decoder on random patches."""
    patches = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    z = patches.repeat_interleave(4, -1).repeat_interleave(4, -2)
    decoded, _ = vae.decode(model, z.to(model.placement.device))
    image = decoded.resize((32, 32), Image.Resampling.BOX)
    rgb = torch.from_numpy(np.asarray(image).copy()).reshape(-1, 3) / 127.5 - 1
    values = torch.cat([z[0], torch.ones(1, 32, 32)]).flatten(1).T
    solution: Tensor = torch.linalg.lstsq(values, rgb, driver="gelsd").solution
    return solution
