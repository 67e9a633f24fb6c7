"""Draw with the model in training, in batches, with the package's own samplers: prompts -> latents -> pixels."""

import math
import re
import sys
from functools import cache
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image, ImageDraw
from torch import Tensor
from transformers import CLIPTextModel

import recipe
import tokens
from norm import hasten
from sdcli import registry
from sdcli.checkpoints.families.tiny import tiny as family
from sdcli.diffusion.levels import Levels
from sdcli.diffusion.preconditioning import TO_DENOISED
from sdcli.tokenizer import ids

WEIGHTED = re.compile(r"\(([^():]+):([0-9.]+)\)")

PROMPTS = (
    "a red apple",
    "a banana",
    "a cat",
    "a dog",
    "a house",
    "a car",
    "a blue car",
    "a smiling face",
    "a rocket",
    "a penguin",
    "a pizza, flat illustration",
    "a tree on a blue background",
    "a green balloon",
    "a guitar",
    "an elephant, cartoon",
    "a kitten",
    "a rose",
    "a fish",
    "a crown, 3d render",
    "a bicycle",
    "a castle",
    "a giraffe",
    "a sandwich",
    "a t-shirt",
    "a shark",
    "a motorcycle, black and white line art",
    "a duck, pixel art",
    "a star in the night sky",
    "a camel in the desert",
    "a cat next to a tree",
    "an apple above a book",
    "three mushrooms",
)


@torch.no_grad()
def latents(
    unet: UNet2DConditionModel,
    prompts: list[str],
    seeds: list[int],
    steps: int = family.steps,
    cfg: float = family.cfg,
    sampler: str = family.sampler,
    schedule: str = family.schedule,
    folder: Path | None = None,
) -> Tensor:  # (n, 4, h, w)
    """Sample with the package's sampler, schedule and guidance; one seed per prompt."""
    words = told(encoder(folder or recipe.WORK), ["", *prompts])
    levels = Levels.scaled_linear(recipe.SCHEDULE["beta_start"], recipe.SCHEDULE["beta_end"]).rescaled()
    sigmas = registry.find("schedules", schedule)(steps, levels)
    streams = [torch.Generator().manual_seed(seed) for seed in seeds]
    side = unet.config.sample_size

    def noise(sigma: float, lower: float) -> Tensor:
        return torch.stack([torch.randn(4, side, side, generator=stream) for stream in streams])

    def predict(x: Tensor, sigma: float, conds: list[Tensor]) -> list[Tensor]:
        shown = (x / math.sqrt(sigma**2 + 1)).repeat(len(conds), 1, 1, 1)
        shown = shown.contiguous(memory_format=torch.channels_last)
        out = unet(shown, torch.tensor(levels.t(sigma)), encoder_hidden_states=torch.cat(conds)).sample
        return list(TO_DENOISED["v_prediction"](x.repeat(len(conds), 1, 1, 1), out, sigma).chunk(len(conds)))

    empty = words[:1].expand(len(prompts), -1, -1)
    denoise = registry.find("guidance", family.guidance)(predict, words[1:], empty, cfg)
    x = noise(0, 0) * math.sqrt(1 + sigmas[0] ** 2)
    for each in registry.find("samplers", sampler)(denoise, x, sigmas, noise):
        x = each
    return x


@torch.no_grad()
def told(text: CLIPTextModel, prompts: list[str]) -> Tensor:  # (n, 77, width)
    """The states of the prompts; those of `(word:1.5)` are multiplied, and the mean of the prompt is kept."""
    rows = tokens.encode([WEIGHTED.sub(r"\1", prompt) for prompt in prompts])
    states = text(torch.tensor(rows)).last_hidden_state.float()
    for state, row, prompt in zip(states, rows, prompts, strict=True):
        mean = state.mean()
        for words, weight in WEIGHTED.findall(prompt):
            found = ids(words)
            (start, *_) = (i for i in range(len(row)) if row[i : i + len(found)] == found)
            state[start : start + len(found)] *= float(weight)
        state *= mean / state.mean()
    return states


@torch.no_grad()
def decode(x: Tensor, folder: Path | None = None) -> np.ndarray:  # (n, size, size, 3) bytes
    vae = decoder(folder or recipe.WORK)
    y = torch.cat(
        [vae.decode(part.contiguous(memory_format=torch.channels_last)).sample for part in x.split(2)]
    )
    return ((y.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()


def sheet(
    unet: UNet2DConditionModel,
    path: Path,
    prompts: tuple[str, ...] = PROMPTS,
    seeds: tuple[int, ...] = (7,),
    columns: int = 8,
    side: int = 192,
    **how: float,
) -> None:
    """A contact sheet: the prompts in reading order, each with every seed."""
    asked = [(prompt, seed) for prompt in prompts for seed in seeds]
    pictures = decode(latents(unet, [prompt for prompt, _ in asked], [seed for _, seed in asked], **how))
    rows = -(-len(asked) // columns)
    page = Image.new("RGB", (columns * side, rows * (side + 14)), "white")
    draw = ImageDraw.Draw(page)
    for i, ((prompt, seed), picture) in enumerate(zip(asked, pictures, strict=True)):
        x, y = i % columns * side, i // columns * (side + 14)
        page.paste(Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS), (x, y + 14))
        draw.text((x + 2, y + 1), f"{prompt} #{seed}"[: side // 6], fill="black")
    page.save(path)


@cache
def encoder(folder: Path) -> CLIPTextModel:
    return CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval()


@cache
def decoder(folder: Path) -> AutoencoderKL:
    return hasten(AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32)).eval()


if __name__ == "__main__":
    sheet(
        hasten(UNet2DConditionModel.from_pretrained(recipe.WORK / "unet")).eval(),
        Path(sys.argv[1]),
        tuple(sys.argv[2:]) or PROMPTS,
    )
