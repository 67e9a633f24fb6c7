"""Pixels: pictures as arrays of numbers, and back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def to_pixels(image: Image.Image) -> NDArray[np.float32]:
    """The picture as (h, w, 3) in 0 … 255."""
    return np.asarray(image.convert("RGB"), dtype=np.float32)


def to_image(values: NDArray[np.float32]) -> Image.Image:
    """(h, w), or (h, w, 3), in 0 … 255 as a picture; what is outside is cut off."""
    return Image.fromarray(values.clip(0, 255).round().astype(np.uint8))
