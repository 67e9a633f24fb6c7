"""Noise: forward diffusion of a picture, level by level, and what the network makes of each level in one step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from sdcli.batch.reports.labels import fitted, font
from sdcli.diffusion.conditioning import Cond
from sdcli.diffusion.levels import Levels
from sdcli.diffusion.noise import Stream
from sdcli.models.model import Model
from sdcli.pipeline import vae
from sdcli.pipeline.unet import predictor
from sdcli.request.resize import fit_image
from sdcli.train import captions
from sdcli.train.buckets import bucket_of, buckets, step_of
from sdcli.train.loss import noised

SIDE, GAP, TEXT, HEADER = 256, 6, 15, 26  # pixels: of a picture's longer side at most; gaps, letters, labels
LEFT = 76  # pixels of the names of the rows


@dataclass(frozen=True, eq=False)
class Level:
    """Latents (1, 4, h/8, w/8) at a noise level: `x` with unit variance as the network sees it, and its estimate."""

    timestep: int
    sigma: float
    x: Tensor
    denoised: Tensor


def timesteps(levels: Levels, count: int) -> list[int]:
    """So many timesteps from the first to the last, evenly spaced; 1 is the middle one."""
    if count == 1:
        return [levels.last // 2]
    return [round(levels.last * i / (count - 1)) for i in range(count)]


def at_levels(model: Model, z: Tensor, steps: Sequence[int], prompt: str, seed: int) -> Iterator[Level]:
    """Latents z with the same noise at each of these timesteps, and what the network makes of them for the prompt.

    The estimate is the one-step prediction of the clean latents, without guidance.
    """
    noise = Stream(seed, tuple(z.shape), z.device).draw(tuple(z.shape))
    predict, cond = predictor(model), told_of(model, prompt, z)
    for step in steps:
        sigma = model.levels.table[step]
        seen = noised(z, noise, torch.tensor([step]), model.levels, model.prediction)
        yield Level(step, sigma, seen.x, predict(z + sigma * noise, sigma, [cond])[0])


def told_of(model: Model, prompt: str, z: Tensor) -> Cond:
    """What the network is told of a prompt, in plain words, for a picture of these latents."""
    height, width = (float(side * model.factor) for side in z.shape[-2:])
    cond = captions.kept_states(model, [prompt])[0]
    return cond if cond.pooled is None else replace(cond, time_ids=(height, width, 0.0, 0.0, height, width))


def latents_of(model: Model, image: Image.Image) -> Tensor:
    """The latents of a picture at the model's own area, cut to the nearest of the sizes that models are trained at."""
    size = bucket_of(image.size, buckets(model.size, step_of(model.size)))
    return vae.encode(model, vae.to_tensor(fit_image(image, *size, "crop"))).clone()


def filmstrip(model: Model, levels: Sequence[Level]) -> Image.Image:
    """A column for each level: its sigma and timestep, the noisy latents decoded, and below the estimate decoded."""
    rows = [
        [vae.decode(model, each.x)[0] for each in levels],
        [vae.decode(model, each.denoised)[0] for each in levels],
    ]
    for row in rows:
        for picture in row:
            picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    width, height = rows[0][0].size
    page = Image.new("RGB", (LEFT + len(levels) * (width + GAP), HEADER + 2 * (height + GAP)), "white")
    pen = ImageDraw.Draw(page)
    for y, name in enumerate(("noised", "estimate")):
        pen.text((GAP, HEADER + y * (height + GAP) + height // 2), name, "black", font(TEXT), anchor="lm")
    for i, level in enumerate(levels):
        left = LEFT + i * (width + GAP)
        label = fitted(f"sigma {level.sigma:.3g}, t {level.timestep}", width, TEXT)
        pen.text((left, HEADER // 2), label, "black", font(TEXT), anchor="lm")
        for y, row in enumerate(rows):
            page.paste(row[i], (left, HEADER + y * (height + GAP)))
    return page
