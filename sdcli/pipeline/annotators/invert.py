from __future__ import annotations

from PIL import Image, ImageOps


def invert(image: Image.Image, model: str = "tiny", device: str = "auto") -> Image.Image:
    """Black and white swapped: of a drawing on white paper, the lines on black that nets were trained on."""
    return ImageOps.invert(image.convert("RGB"))
