"""Infill: replace the masked part of a picture by the colours around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

# Radii in pixels, painted in this order: the wide blurs reach the middle of the mask, the narrow ones match its edge.
_BLUR_RADII = (256, 64, 32, 16, 8, 4, 2)


def infill(image: Image, mask: Image) -> Image:
    """The image (RGB) with the white part of the mask (L) filled smoothly with the surrounding colours.

    Blurred copies of the kept part, from wide to narrow, are painted over each other; each is as opaque as there are
    kept pixels within its reach. An image of which nothing is kept comes back as it is.
    """
    from PIL import Image, ImageChops, ImageFilter

    kept = ImageChops.invert(mask)
    if kept.getextrema() == (0, 0):
        return image
    known = image.convert("RGBA")
    known.putalpha(kept)
    known = known.convert("RGBa")  # premultiplied alpha, so that masked pixels have no weight in the blur
    filled = Image.new("RGBA", image.size, (0, 0, 0, 0))
    for radius in _BLUR_RADII:
        blurred = known.filter(ImageFilter.GaussianBlur(radius)).convert("RGBA")
        blurred.putalpha(blurred.getchannel("A").point([min(255, 8 * alpha) for alpha in range(256)]))
        filled = Image.alpha_composite(filled, blurred)
    return Image.composite(filled.convert("RGB"), image, mask)
