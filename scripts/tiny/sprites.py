"""Sprites: every emoji as one transparent square picture, cropped to what is drawn: `sprites/STYLE/EMOJI.webp`."""

import io
import json
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

import recipe
from concepts import CONCEPTS

ICONIFY = recipe.DATA / "npm" / "x" / "iconify-json-2.2.535" / "package" / "json"
UNICODE = recipe.DATA / recipe.NAMES
FLUENT_3D = recipe.DATA / "npm" / "x" / "lobehub-fluent-emoji-3d-1.1.0" / "package" / "assets"
UNWANTED = (
    "flag",
    "oclock",
    "thirty",
    "button",
    "arrow",
    "skin",
    "keycap",
    "square",
    "circle",
    "kiss",
    "middle",
)
OTHER_SLUGS = {"pouting-face": "enraged-face"}  # iconify's name -> the name in newer Unicode lists


def path(style: str, emoji: str) -> Path:
    """The path of a sprite; there is no file if the style has no such picture."""
    return recipe.WORK / "sprites" / style / f"{emoji}.webp"


def sprite(style: str, emoji: str) -> np.ndarray:  # (SPRITE, SPRITE, 4) bytes, straight alpha
    return np.asarray(Image.open(path(style, emoji)).convert("RGBA"))


def drawn() -> list[tuple[str, str]]:
    """(style, emoji) of all sprites that were made, sorted."""
    return sorted((file.parent.name, file.stem) for file in (recipe.WORK / "sprites").glob("*/*.webp"))


def wanted() -> list[tuple[str, str]]:
    """(style, emoji) of every sprite: all styles of the training emoji, and for the VAE the fast styles of the rest."""
    taught = [emoji for emojis, _ in CONCEPTS.values() for emoji in emojis]
    sets = [style for style in (*recipe.STYLES, *recipe.HELD_OUT) if style != recipe.PIXELS]
    pairs = [(style, emoji) for style in sets for emoji in taught]
    for style in recipe.VAE_STYLES:
        names = sorted(_set(style)["icons"])
        pairs += [
            (style, name)
            for name in names
            if not any(word in name for word in UNWANTED)
            and not name.endswith(("-light", "-dark"))
            and "-tone" not in name
            and name not in taught
        ]
    return [pair for pair in pairs if pair[0] == "fluent-3d" or pair[1] in _names(pair[0])]


def render(pair: tuple[str, str]) -> None:
    """Write one sprite, cropped square to its alpha box, if the set has it and it does not exist yet."""
    style, emoji = pair
    target = path(style, emoji)
    if target.exists():
        return
    if style == "fluent-3d":
        source = FLUENT_3D / f"{_code_points(emoji)}.webp"
        if not source.exists():
            return
        image = Image.open(source).convert("RGBA")
    else:
        import pyvips  # imported only here: training on finished sprites does not need it

        drawing = pyvips.Image.thumbnail_buffer(_svg(style, emoji), recipe.DRAWN, height=recipe.DRAWN)
        image = Image.open(io.BytesIO(drawing.write_to_buffer(".png"))).convert("RGBA")
    box = image.getchannel("A").point(lambda a: 255 * (a > 8)).getbbox()
    if box is None:
        return
    image = image.crop(box)
    side = max(image.size)
    square = Image.new("RGBA", (side, side))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    target.parent.mkdir(parents=True, exist_ok=True)
    square = square.resize((recipe.SPRITE, recipe.SPRITE), Image.Resampling.LANCZOS)
    square.save(target, lossless=True, method=0)


@cache
def _set(style: str) -> dict:
    return json.loads((ICONIFY / f"{style}.json").read_text())


@cache
def _names(style: str) -> set[str]:
    return set(_set(style)["icons"]) | set(_set(style).get("aliases", {}))


@cache
def _code_points(emoji: str) -> str:
    for text, entry in json.loads(UNICODE.read_text()).items():
        if entry["slug"].replace("_", "-") == OTHER_SLUGS.get(emoji, emoji):
            code = "-".join(f"{ord(c):x}" for c in text)
            short = code.replace("-fe0f", "")
            return code if (FLUENT_3D / f"{code}.webp").exists() else short
    return "missing"


def _svg(style: str, emoji: str) -> bytes:
    icons = _set(style)
    while emoji not in icons["icons"]:
        emoji = icons["aliases"][emoji]["parent"]
    icon = icons["icons"][emoji]
    width, height = icon.get("width", icons["width"]), icon.get("height", icons["height"])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{width}" height="{height}" viewBox="0 0 {width} {height}">{icon["body"]}</svg>'
    ).encode()


def main() -> None:
    pairs = wanted()
    with ProcessPoolExecutor() as pool:
        list(pool.map(render, pairs, chunksize=32))
    print(len(drawn()), "sprites of", len(pairs))


if __name__ == "__main__":
    main()
