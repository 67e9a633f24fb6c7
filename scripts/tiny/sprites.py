"""Sprites: every emoji as one transparent square picture, cropped to what is drawn.

Writes `sprites.npy` (n, SPRITE, SPRITE, 4) and `sprites.json`, the (style, emoji) of each.
"""

import io
import json
from concurrent.futures import ProcessPoolExecutor
from functools import cache

import numpy as np
import pyvips
from PIL import Image

import recipe
from concepts import CONCEPTS

ICONIFY = recipe.DATA / "npm" / "x" / "iconify-json-2.2.535" / "package" / "json"
UNICODE = recipe.DATA / "npm" / "x" / "unicode-emoji-json-0.9.0" / "package" / "data-by-emoji.json"
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


def wanted() -> list[tuple[str, str]]:
    """(style, emoji) of every sprite: all styles of the taught emoji, and the cheap styles of the rest for the VAE."""
    taught = [emoji for emojis, _ in CONCEPTS.values() for emoji in emojis]
    pairs = [(style, emoji) for style in (*recipe.STYLES, *recipe.HELD_OUT) for emoji in taught]
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


def render(pair: tuple[str, str]) -> np.ndarray | None:
    """RGBA of one sprite, cropped square to its alpha box; None where the set has no such picture."""
    style, emoji = pair
    if style == "fluent-3d":
        path = FLUENT_3D / f"{_code_points(emoji)}.webp"
        if not path.exists():
            return None
        image = Image.open(path).convert("RGBA")
    else:
        image = Image.open(
            io.BytesIO(
                pyvips.Image.thumbnail_buffer(_svg(style, emoji), 384, height=384).write_to_buffer(".png")
            )
        ).convert("RGBA")
    box = image.getchannel("A").point(lambda a: 255 * (a > 8)).getbbox()
    if box is None:
        return None
    image = image.crop(box)
    side = max(image.size)
    square = Image.new("RGBA", (side, side))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return np.asarray(square.resize((recipe.SPRITE, recipe.SPRITE), Image.Resampling.LANCZOS))


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
    if (recipe.WORK / "sprites.json").exists():
        return
    pairs = wanted()
    with ProcessPoolExecutor(2) as pool:
        drawn = [
            (pair, sprite)
            for pair, sprite in zip(pairs, pool.map(render, pairs, chunksize=32), strict=True)
            if sprite is not None
        ]
    np.save(recipe.WORK / "sprites.npy", np.stack([sprite for _, sprite in drawn]))
    (recipe.WORK / "sprites.json").write_text(json.dumps([pair for pair, _ in drawn]))
    print(len(drawn), "sprites of", len(pairs))


if __name__ == "__main__":
    main()
