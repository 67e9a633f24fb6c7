"""The bank the UNet learns from: latents of every taught sprite in many dresses, and captions true of each.

Writes `bank.pt`: latents (n, 4, 32, 32) half, captions (n, k) -> rows of embeddings (m, 77, 128) half; row 0
is the empty caption.
"""

import json

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from transformers import CLIPTextModel

import recipe
import tokens
from captions import caption
from compose import HUES, place, recolour
from concepts import COLOURS, CONCEPTS
from norm import hasten


def dresses(
    random: np.random.Generator, sprite: np.ndarray, names: tuple[str, ...], style: str, own: str | None
) -> tuple[list[np.ndarray], list[list[str]]]:
    """(pictures, captions of each): mostly as drawn on white; some recoloured, some on a coloured background."""
    pictures, texts = [], []
    for i in range(recipe.DRESSES):
        colour, worn, ground = own, sprite, None
        if _recoloured(i):
            wish = str(random.choice([hue for hue in HUES if hue != own]))
            turned = recolour(sprite, wish)
            if turned is not None:
                colour, worn = wish, turned
        changed = worn is not sprite
        if i % 10 in recipe.ON_COLOUR:
            ground = str(
                random.choice([name for name in recipe.BACKGROUNDS if str(colour) not in name.split()])
            )
        rgb = recipe.BACKGROUNDS[ground] if ground else (255, 255, 255)
        part, flip = random.uniform(*recipe.PART), random.random() < recipe.FLIP
        shift = tuple(int(v) for v in random.integers(-recipe.SHIFT, recipe.SHIFT + 1, 2))
        pictures.append(place(worn, recipe.SIZE, part, shift, flip, rgb))
        texts.append([caption(random, names, style, colour, changed, ground) for _ in range(recipe.CAPTIONS)])
    return pictures, texts


def is_plain(dress: int) -> bool:
    """Whether a sprite's dress of this number is its own colours on white."""
    return not _recoloured(dress) and dress % 10 not in recipe.ON_COLOUR


def _recoloured(dress: int) -> bool:
    return dress >= recipe.DRESSES * (1 - recipe.RECOLOURED)


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: list[np.ndarray]) -> Tensor:
    x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return torch.cat(
        [
            vae.encode(part.contiguous(memory_format=torch.channels_last)).latent_dist.mode()
            for part in x.split(10)
        ]
    ).half()


def main() -> None:
    random = np.random.default_rng(recipe.SEED)
    sprites = np.load(recipe.WORK / "sprites.npy", mmap_mode="r")
    rows = {tuple(pair): i for i, pair in enumerate(json.loads((recipe.WORK / "sprites.json").read_text()))}
    vae = hasten(AutoencoderKL.from_pretrained(recipe.WORK / "vae")).eval()
    text = CLIPTextModel.from_pretrained(recipe.WORK / "text_encoder").eval()
    latents, texts, concepts = [], [], []
    for number, (name, (emojis, others)) in enumerate(CONCEPTS.items()):
        for emoji in emojis:
            for style in recipe.STYLES:
                sprite = np.ascontiguousarray(sprites[rows[style, emoji]])
                pictures, words = dresses(random, sprite, (name, *others), style, COLOURS.get(emoji))
                latents.append(encode(vae, pictures))
                texts += words
                concepts += [number] * len(words)
    unique = {"": 0}
    captions = torch.tensor([[unique.setdefault(words, len(unique)) for words in row] for row in texts])
    ids = torch.tensor(tokens.encode(list(unique)))
    with torch.no_grad():
        embeddings = torch.cat([text(part).last_hidden_state.half() for part in ids.split(128)])
    latents = torch.cat(latents)
    torch.save(
        {
            "latents": latents,
            "captions": captions,
            "embeddings": embeddings,
            "concepts": torch.tensor(concepts),
            "texts": list(unique),
        },
        recipe.WORK / "bank.pt",
    )
    print(
        len(latents),
        "pictures,",
        len(unique),
        "captions; latents: mean",
        latents.float().mean((0, 2, 3)).tolist(),
        "deviation",
        latents.float().std((0, 2, 3)).tolist(),
    )


if __name__ == "__main__":
    main()
