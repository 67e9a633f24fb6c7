from __future__ import annotations

import numpy as np
from PIL import Image

from sdcli.pipeline.annotators._edges import blurred
from sdcli.pipeline.annotators._pixels import to_image, to_pixels

_LEAST_CONTRAST = 16.0  # of the lines in 0 … 255; fainter ones are not brought up


def lineart(
    image: Image.Image, model: str = "tiny", device: str = "auto", *, blur: float = 6.0
) -> Image.Image:
    """Lines as a drawing has them, white on black: what is darker than its surroundings, without a network.

    Each pixel is compared with the mean of its surroundings of `blur` pixels; lines of median contrast come out at half
    brightness. Neighbouring areas of different brightness give a line along the darker side.
    """
    pixels = to_pixels(image)
    darker = (blurred(pixels, blur) - pixels).min(-1).clip(0)
    clear = darker[darker > _LEAST_CONTRAST / 2]
    middle = float(np.median(clear)) if clear.size else 0.0
    return to_image(darker / max(middle, _LEAST_CONTRAST) * 127)
