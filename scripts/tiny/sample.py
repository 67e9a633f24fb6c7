"""Pictures from the model in training: prompts -> latents -> pixels, with diffusers' own samplers."""

import sys
from functools import cache
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from PIL import Image, ImageDraw
from torch import Tensor
from transformers import CLIPTextModel

import recipe
import tokens
from norm import hasten

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
    "a cup of coffee",
    "a crown",
    "a robot",
    "a purple heart",
    "a bicycle",
    "an owl, 3d render",
)


@torch.no_grad()
def latents(
    unet: UNet2DConditionModel,
    prompts: list[str],
    seeds: list[int],
    steps: int = 20,
    cfg: float = 3.0,
    folder: Path | None = None,
) -> Tensor:  # (n, 4, 32, 32)
    """DDIM on trailing times, with classifier-free guidance; one seed per prompt."""
    text = encoder(folder or recipe.WORK)
    words = text(torch.tensor(tokens.encode(["", *prompts]))).last_hidden_state.float()
    empty, words = words[:1].expand(len(prompts), -1, -1), words[1:]
    scheduler = DDIMScheduler(**recipe.SCHEDULE)
    scheduler.set_timesteps(steps)
    side = recipe.SIZE // 8
    x = torch.stack(
        [torch.randn(4, side, side, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    )
    x = x * scheduler.init_noise_sigma
    for time in scheduler.timesteps:
        both = scheduler.scale_model_input(torch.cat([x, x]), time).contiguous(
            memory_format=torch.channels_last
        )
        plain, told = unet(both, time, encoder_hidden_states=torch.cat([empty, words])).sample.chunk(2)
        x = scheduler.step(plain + cfg * (told - plain), time, x).prev_sample
    return x


@torch.no_grad()
def decode(x: Tensor, folder: Path | None = None) -> np.ndarray:  # (n, size, size, 3) bytes
    vae = decoder(folder or recipe.WORK)
    y = torch.cat(
        [vae.decode(part.contiguous(memory_format=torch.channels_last)).sample for part in x.split(4)]
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
