"""Plot: the losses of a training as a picture, and as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from sdcli.request.png import encode_png

WIDTH, HEIGHT = 1000, 500
LEFT, RIGHT, TOP, BOTTOM = 80, 30, 50, 50
LINES = 5  # of the grid, across
GRID, INK, EACH, MEAN = "#e4e4e4", "#555555", "#c9d6e8", "#1f5fa8"


def plot_losses(losses: Sequence[float]) -> bytes:
    """A PNG of the loss of each step, pale, and their running mean, which tells whether anything is learned."""
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(image)
    means = running_means(losses)
    top = max([*means, *sorted(losses)[: max(1, len(losses) * 95 // 100)]], default=1.0) or 1.0
    _draw_grid(pen, top, len(losses))
    for values, colour, width in ((losses, EACH, 1), (means, MEAN, 3)):
        points = [_point(i, value, top, len(losses)) for i, value in enumerate(values, 1)]
        if len(points) > 1:
            pen.line(points, colour, width, joint="curve")
    text = f"loss of {len(losses)} steps, and its running mean: {means[-1]:.4g}" if losses else "no steps yet"
    pen.text((LEFT, TOP / 2), text, "black", ImageFont.load_default(18), anchor="lm")
    return encode_png(image)


def running_means(losses: Sequence[float]) -> list[float]:
    """The exponential running mean over about a tenth of the steps, without a bias towards the first."""
    span = max(len(losses) / 10, 1)
    keep = 1 - 1 / span
    total = weight = 0.0
    means = []
    for loss in losses:
        total, weight = total * keep + loss, weight * keep + 1
        means.append(total / weight)
    return means


def as_table(losses: Sequence[float]) -> bytes:
    """The losses as CSV: step, loss."""
    return "".join(["step,loss\n", *(f"{i},{loss!r}\n" for i, loss in enumerate(losses, 1))]).encode()


def _point(step: float, loss: float, top: float, steps: int) -> tuple[float, float]:
    share = min(loss / top, 1.05) if math.isfinite(loss) else 1.05
    x = LEFT + (step - 1) / max(steps - 1, 1) * (WIDTH - LEFT - RIGHT)
    return x, HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _draw_grid(pen: ImageDraw.ImageDraw, top: float, steps: int) -> None:
    font = ImageFont.load_default(14)
    for i in range(LINES + 1):
        loss = top * i / LINES
        left, right = _point(1, loss, top, steps), _point(max(steps, 2), loss, top, max(steps, 2))
        pen.line([left, right], GRID)
        pen.text((LEFT - 10, left[1]), f"{loss:.3g}", INK, font, anchor="rm")
    for step in sorted({1, *(round(steps * i / 5) for i in range(1, 6))} if steps else ()):
        pen.text((_point(step, 0, top, steps)[0], HEIGHT - BOTTOM + 18), str(step), INK, font, anchor="mm")
