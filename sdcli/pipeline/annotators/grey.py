from __future__ import annotations

from PIL import Image


def grey(image: Image.Image, model: str = "tiny", device: str = "auto") -> Image.Image:
    """The picture without its colours, for nets that colour it anew."""
    return image.convert("L")
