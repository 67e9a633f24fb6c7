"""A sprite becomes a picture: scale, place, flip, recolour, and lay on a plain background."""

import numpy as np
from PIL import Image

HUES = {
    "red": 0.0,
    "orange": 0.075,
    "yellow": 0.145,
    "green": 0.36,
    "blue": 0.60,
    "purple": 0.76,
    "pink": 0.91,
}


def place(
    sprite: np.ndarray,
    size: int,
    part: float,
    shift: tuple[int, int] = (0, 0),
    flip: bool = False,
    background: tuple[int, int, int] = (255, 255, 255),
) -> np.ndarray:
    """RGB (size, size, 3): the RGBA sprite at `part` of the width, `shift` pixels off the middle."""
    side = round(size * part)
    image = Image.fromarray(sprite[:, ::-1] if flip else sprite).convert(
        "RGBa"
    )  # premultiplied: no dark fringes
    image = image.resize((side, side), Image.Resampling.LANCZOS).convert("RGBA")
    picture = Image.new("RGB", (size, size), background)
    picture.paste(image, ((size - side) // 2 + shift[0], (size - side) // 2 + shift[1]), image)
    return np.asarray(picture)


def recolour(sprite: np.ndarray, colour: str) -> np.ndarray | None:
    """The sprite with its dominant hue turned to `colour`; None where it has no dominant hue."""
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
