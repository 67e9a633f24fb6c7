"""Show how much is copied: samples above the nearest training pictures. `python nearest.py SHEET.png [FOLDER]`"""

import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from PIL import Image

import recipe
import recognise
import sample
from concepts import CONCEPTS
from norm import hasten

COUNT, ACROSS, SIDE, SEED = 32, 16, 96, 303


def main(target: Path, folder: Path = recipe.WORK) -> None:
    unet = hasten(UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)).eval()
    names = list(CONCEPTS)[:: len(CONCEPTS) // COUNT][:COUNT]
    drawn = []
    for start in range(0, COUNT, 8):
        prompts = [recognise.prompt_of(name) for name in names[start : start + 8]]
        drawn.append(
            sample.decode(sample.latents(unet, prompts, [SEED] * len(prompts), folder=folder), folder)
        )
    pictures = np.concatenate(drawn)
    taught = [
        (style, number, row)
        for style in recipe.STYLES
        for number, row in enumerate(recognise.real()[style])
        if row.isfinite().all()
    ]
    table = torch.stack([row for *_, row in taught])
    centre = table.mean(0)
    near = torch.nn.functional.normalize(recognise.features(pictures) - centre, dim=1)
    closeness = near @ torch.nn.functional.normalize(table - centre, dim=1).T
    page = Image.new("RGB", (ACROSS * SIDE, 2 * COUNT // ACROSS * SIDE), "white")
    for i, (picture, best) in enumerate(zip(pictures, closeness.argmax(1).tolist(), strict=True)):
        style, number, _ = taught[best]
        real = recognise.taught(style, list(CONCEPTS.values())[number][0][0])
        for row, each in enumerate((picture, real)):
            small = Image.fromarray(each).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            page.paste(small, (i % ACROSS * SIDE, (2 * (i // ACROSS) + row) * SIDE))
    page.save(target)
    same = [
        taught[best][1] == list(CONCEPTS).index(n) for n, best in zip(names, closeness.argmax(1), strict=True)
    ]
    print(f"{sum(same)} of {COUNT} are nearest to a picture of the thing asked for; closeness", end=" ")
    print(f"{closeness.max(1).values.mean():.2f} on average, 1 is the same picture")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
