"""Composite: paste what was drawn into the original picture; what the mask keeps stays bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdcli.errors import ImageError
from sdcli.request.icc import from_srgb
from sdcli.request.images import OpenedImage, add_alpha

if TYPE_CHECKING:
    from PIL.Image import Image


def composite(opened: OpenedImage, drawn: Image, mask: Image) -> Image:
    """The original picture with `drawn` (RGB, sRGB) over it, as opaque as the mask (L) is white.

    All three have one size. The result has the mode and colour profile of the original. Where the mask is black it
    has the original's pixels, including alpha and the colours that alpha hides. Raises ImageError for a mask of
    another size.
    """
    original = opened.original
    if mask.size != original.size:
        sizes = "{}x{}, the picture {}x{}".format(*mask.size, *original.size)
        raise ImageError(f"the mask is {sizes}; choose --fit crop, pad or stretch")
    drawn = to_original_colours(opened, drawn)
    if opened.alpha is None:
        result = original.copy()
        result.paste(drawn, mask=mask)
        return result
    result = original.convert("RGBA")  # grey survives the way to RGB and back
    result.alpha_composite(add_alpha(drawn.convert("RGB"), mask))
    return result.convert(original.mode)


def to_original_colours(opened: OpenedImage, image: Image) -> Image:
    """The image (RGB, sRGB) converted to the original's colour profile, and to grey if the original is grey."""
    mode = opened.original.mode.removesuffix("A")
    converted = from_srgb(image, opened.icc, mode) if opened.icc else None
    return converted or image.convert(mode)
