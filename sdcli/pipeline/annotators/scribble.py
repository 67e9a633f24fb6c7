from __future__ import annotations

import numpy as np
from PIL import Image

from sdcli.pipeline.annotators._edges import blurred
from sdcli.pipeline.annotators._pixels import to_image, to_pixels


def scribble(
    image: Image.Image, model: str = "tiny", device: str = "auto", *, threshold: float = 32.0
) -> Image.Image:
    """Thick rough lines, white on black, as of a marker: a difference of two blurs above a threshold.

    Winnemöller 2011, "XDoG: Advanced Image Stylization with eXtended Difference-of-Gaussians". A lower `threshold`, of
    0 … 255, gives more and thicker lines.
    """
    pixels = to_pixels(image)
    darker = (blurred(pixels, 5.0) - blurred(pixels, 0.5)).min(-1)
    return to_image((2 * darker > threshold).astype(np.float32) * 255)
