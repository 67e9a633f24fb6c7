"""Compose a picture of sprites: scale, place, mirror and recolour them, on white, a colour or a scene."""

import numpy as np
from PIL import Image, ImageDraw

HUES = {
    "red": 0.0,
    "orange": 0.075,
    "yellow": 0.145,
    "green": 0.36,
    "blue": 0.60,
    "purple": 0.76,
    "pink": 0.91,
}
WHITE = (255, 255, 255)


def plain(size: int, colour: tuple[int, int, int] = WHITE) -> Image.Image:
    """An empty picture of one colour."""
    return Image.new("RGB", (size, size), colour)


def lay(
    picture: Image.Image,
    sprite: np.ndarray,
    part: float,
    middle: tuple[float, float] = (0.5, 0.5),
    flip: bool = False,
) -> None:
    """Paste an RGBA sprite, `part` of the picture's width wide, centred at (x, y), each a fraction of a side."""
    side = round(picture.width * part)
    image = Image.fromarray(np.ascontiguousarray(sprite[:, ::-1] if flip else sprite)).convert("RGBa")
    image = image.resize((side, side), Image.Resampling.LANCZOS).convert(
        "RGBA"
    )  # premultiplied: no dark fringe
    left, top = (round(picture.width * v - side / 2) for v in middle)
    picture.paste(image, (left, top), image)


def place(sprite: np.ndarray, size: int, part: float) -> np.ndarray:
    """RGB (size, size, 3): one sprite in the middle of a white picture."""
    picture = plain(size)
    lay(picture, sprite, part)
    return np.asarray(picture)


def blocky(picture: Image.Image, blocks: int = 32) -> Image.Image:
    """The picture as pixel art: `blocks` flat squares per side, few colours."""
    small = picture.resize((blocks, blocks), Image.Resampling.BOX).quantize(24, dither=Image.Dither.NONE)
    return small.convert("RGB").resize(picture.size, Image.Resampling.NEAREST)


# -- scenes: each draws a whole background, seeded -----------------------------------------------------------------


def _graded(size: int, top: tuple[int, ...], bottom: tuple[int, ...]) -> Image.Image:
    ramp = np.linspace(0, 1, size)[:, None, None]
    colours = (1 - ramp) * np.array(top) + ramp * np.array(bottom)
    return Image.fromarray(np.broadcast_to(colours, (size, size, 3)).round().astype(np.uint8))


def _ground(picture: Image.Image, colour: tuple[int, int, int], height: float, bend: float) -> None:
    n, (w, h) = 64, picture.size
    line = [(w * i / n, h * (1 - height + bend * np.sin(np.pi * i / n))) for i in range(n + 1)]
    ImageDraw.Draw(picture).polygon([*line, (w, h), (0, h)], fill=colour)


def _dots(
    picture: Image.Image, random: np.random.Generator, count: int, radius: float, colour: tuple[int, int, int]
) -> None:
    draw, size = ImageDraw.Draw(picture), picture.width
    for x, y, r in random.uniform(0, 1, (count, 3)):
        r = size * radius * (0.5 + r)
        draw.ellipse((x * size - r, y * size - r, x * size + r, y * size + r), fill=colour)


def meadow(size: int, random: np.random.Generator) -> Image.Image:
    picture = _graded(size, (150, 205, 245), (214, 238, 252))
    _ground(picture, (112, 178, 82), random.uniform(0.28, 0.4), random.uniform(-0.06, 0.02))
    return picture


def beach(size: int, random: np.random.Generator) -> Image.Image:
    picture, sea = _graded(size, (140, 210, 250), (210, 240, 252)), random.uniform(0.45, 0.52)
    _ground(picture, (52, 150, 205), sea, 0)
    _ground(picture, (240, 216, 160), sea - 0.16, random.uniform(-0.04, 0.04))
    return picture


def ocean(size: int, random: np.random.Generator) -> Image.Image:
    picture, sea = _graded(size, (160, 215, 250), (216, 240, 252)), random.uniform(0.4, 0.6)
    _ground(picture, (38, 120, 190), sea, 0)
    _ground(picture, (28, 98, 168), sea * 0.55, 0.03)
    return picture


def night_sky(size: int, random: np.random.Generator) -> Image.Image:
    picture = _graded(size, (10, 16, 52), (40, 52, 110))
    _dots(picture, random, 45, 0.005, (250, 246, 214))
    return picture


def snow(size: int, random: np.random.Generator) -> Image.Image:
    picture = _graded(size, (160, 186, 214), (206, 222, 238))
    _ground(picture, (246, 249, 253), random.uniform(0.28, 0.38), random.uniform(-0.06, 0.02))
    _dots(picture, random, 40, 0.008, (255, 255, 255))
    return picture


def desert(size: int, random: np.random.Generator) -> Image.Image:
    picture = _graded(size, (250, 206, 140), (252, 232, 190))
    _ground(picture, (222, 168, 96), random.uniform(0.35, 0.42), random.uniform(-0.08, -0.02))
    _ground(picture, (206, 148, 78), 0.2, 0.05)
    return picture


def sunset(size: int, random: np.random.Generator) -> Image.Image:
    picture = _graded(size, (92, 60, 130), (252, 164, 88))
    _ground(picture, (58, 40, 74), random.uniform(0.16, 0.24), random.uniform(-0.03, 0.03))
    return picture


SCENES = {  # words after the thing in a caption -> the scene
    ("in a meadow", "on grass"): meadow,
    ("on the beach", "at the beach"): beach,
    ("at sea", "on the ocean"): ocean,
    ("in the night sky", "at night"): night_sky,
    ("in the snow",): snow,
    ("in the desert",): desert,
    ("at sunset",): sunset,
}


def recolour(sprite: np.ndarray, colour: str) -> np.ndarray | None:
    """The sprite with its dominant hue turned to `colour`; None if it has no dominant hue."""
    hue, saturation, value, alpha = _hsv(sprite)
    vivid = (alpha > 0.5) & (saturation > 0.30) & (value > 0.2)
    if vivid.sum() < 0.35 * (alpha > 0.5).sum():
        return None
    histogram, edges = np.histogram(hue[vivid], bins=36, range=(0, 1))
    smooth = histogram + np.roll(histogram, 1) + np.roll(histogram, -1)
    peak = edges[smooth.argmax()] + 1 / 72
    away = (hue - peak + 0.5) % 1 - 0.5  # hues are a circle
    turned = vivid & (np.abs(away) < 0.07)
    if turned.sum() < 0.35 * (alpha > 0.5).sum():
        return None
    hue = np.where((np.abs(away) < 0.08) & (saturation > 0.12), (HUES[colour] + 0.6 * away) % 1, hue)
    rgb = Image.fromarray(
        (np.stack([hue, saturation, value], -1) * 255).round().astype(np.uint8), "HSV"
    ).convert("RGB")
    return np.concatenate([np.asarray(rgb), sprite[..., 3:]], -1)


def _hsv(sprite: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    hsv = np.asarray(Image.fromarray(sprite[..., :3]).convert("HSV")).astype(np.float32) / 255
    return hsv[..., 0], hsv[..., 1], hsv[..., 2], sprite[..., 3].astype(np.float32) / 255
