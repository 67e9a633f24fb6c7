"""Curves of a training run as a small PNG: the loss, and under it the judge's score."""

import math
from pathlib import Path

from PIL import Image, ImageDraw

Points = list[tuple[int, float]]
LEFT, GAP = 20, 24


def plot(losses: Points, judged: Points, path: Path, size: tuple[int, int] = (640, 300)) -> None:
    """Plot the loss (logarithmic) and, if it was measured, top-5 (0 to 1), both over steps."""
    if len(losses) < 2:
        return
    width, height = size
    last = max(step for step, _ in (*losses, *judged))
    logs = [(step, math.log10(loss)) for step, loss in losses]
    low, high = min(v for _, v in logs), max(v for _, v in logs) + 1e-9
    image = Image.new("RGB", (width, height * (2 if judged else 1)), "white")
    draw = ImageDraw.Draw(image)
    _line(draw, [(step / last, (v - low) / (high - low)) for step, v in logs], width, height, 0)
    draw.text((LEFT, 4), f"loss {10**high:.4f} .. {10**low:.4f}, {last} steps", fill="black")
    if judged:
        points = [(step / last, v) for step, v in judged]
        _line(draw, points, width, height, height)
        said = f"in the judge's first five: {judged[0][1]:.2f} .. {judged[-1][1]:.2f}, of 0 .. 1"
        draw.text((LEFT, height + 4), said, fill="black")
    image.save(path)


def _line(
    draw: ImageDraw.ImageDraw, points: list[tuple[float, float]], width: int, height: int, top: int
) -> None:
    places = [
        (LEFT + (width - 2 * LEFT) * x, top + height - LEFT - (height - LEFT - GAP) * y) for x, y in points
    ]
    draw.line([(LEFT, top + height - LEFT), (width - LEFT, top + height - LEFT)], fill=(200, 200, 200))
    draw.line(places, fill=(30, 80, 160), width=2)
