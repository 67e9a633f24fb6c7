"""Fill: the masked part of a picture in the colours round it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

_BLURS = (256, 64, 32, 16, 8, 4, 2)  # pixels; the wide ones reach the middle, the narrow ones meet the edge


def infill(image: Image, mask: Image) -> Image:
    """The image (RGB) with what is white in the mask (L) painted over smoothly from what is not.

    Blurs of what is kept, each weighed by how much of it there is, laid over each other from wide to narrow.
    """
    from PIL import Image, ImageChops, ImageFilter

    kept = ImageChops.invert(mask)
    if kept.getextrema() == (0, 0):
        return image
    known = image.convert("RGBA")
    known.putalpha(kept)
    known = known.convert("RGBa")  # premultiplied, as a blur of something transparent must be
    result = Image.new("RGBa", image.size, (0, 0, 0, 0))
    for blur in _BLURS:
        layer = known.filter(ImageFilter.GaussianBlur(blur)).convert("RGBA")
        layer.putalpha(layer.getchannel("A").point([min(255, 8 * value) for value in range(256)]))
        result = Image.alpha_composite(result.convert("RGBA"), layer)
    return Image.composite(result.convert("RGB"), image, mask)
