"""A loss curve as a small PNG."""

import math
from pathlib import Path

from PIL import Image, ImageDraw


def plot(points: list[tuple[int, float]], path: Path, size: tuple[int, int] = (640, 360)) -> None:
    """Loss (logarithmic) over steps."""
    if len(points) < 2:
        return
    width, height = size
    steps, losses = [step for step, _ in points], [math.log10(loss) for _, loss in points]
    low, high = min(losses), max(losses) + 1e-9
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    draw.line(
        [
            (20 + (width - 40) * step / steps[-1], height - 20 - (height - 40) * (loss - low) / (high - low))
            for step, loss in zip(steps, losses, strict=True)
        ],
        fill=(30, 80, 160),
        width=2,
    )
    draw.text((24, 4), f"loss {10**high:.4f} .. {10**low:.4f}, {steps[-1]} steps", fill="black")
    image.save(path)
