"""The linear map from the embedded model's latents to colours, as sdcli/pipeline/preview.py has it.

Run: OMP_NUM_THREADS=1 python scripts/preview_map.py. It encodes and decodes pictures of random colours on white, fits
red, green and blue to the latents by least squares, and prints the map and its mean absolute error on other pictures.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sdcli.models.load import load
from sdcli.models.model import Model
from sdcli.pipeline import vae

SIDE = 256


def picture(seed: int) -> Image.Image:
    """Random colours on white, in 4 to 12 fields a side, with soft borders in every second picture."""
    random, fields = np.random.Generator(np.random.PCG64(seed)), (4, 6, 8, 12)[seed % 4]
    pixels = np.full((fields, fields, 3), 255, np.uint8)
    coloured = random.random((fields, fields)) < 0.7
    pixels[coloured] = random.integers(0, 256, (int(coloured.sum()), 3))
    resample = Image.Resampling.BICUBIC if seed % 2 else Image.Resampling.NEAREST
    return Image.fromarray(pixels).resize((SIDE, SIDE), resample)


def pairs(model: Model, seeds: Iterable[int]) -> tuple[Tensor, Tensor]:
    """Latents and a constant (n, 5), and the mean colours (n, 3) in -1 … 1 of what they decode to."""
    latents, colours = [], []
    for seed in seeds:
        z = vae.encode(model, vae.to_tensor(picture(seed)))
        small = vae.decode(model, z)[0].resize((z.shape[3], z.shape[2]), Image.Resampling.BOX)
        latents.append(torch.cat([z[0], torch.ones_like(z[0, :1])]).flatten(1).T)
        colours.append(torch.from_numpy(np.array(small)).reshape(-1, 3) / 127.5 - 1)
    return torch.cat(latents), torch.cat(colours)


if __name__ == "__main__":
    tiny = load("tiny", "cpu", "float32")
    x, rgb = pairs(tiny, range(8))
    fitted = torch.linalg.lstsq(x, rgb, driver="gelsd").solution
    print("\n".join(f"    ({', '.join(f'{value:.4f}' for value in row)})," for row in fitted.tolist()))
    x, rgb = pairs(tiny, range(100, 104))
    print(f"mean absolute error {(((x @ fitted).clamp(-1, 1) - rgb).abs().mean() * 127.5).item():.1f} of 255")
