"""Paste: what was drawn goes into the picture that it was drawn for, and the rest of it stays bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdcli.errors import ImageError
from sdcli.request.icc import from_srgb
from sdcli.request.images import OpenedImage, joined

if TYPE_CHECKING:
    from PIL.Image import Image

    from sdcli.request.masks import Box


def composite(opened: OpenedImage, drawn: Image, mask: Image, box: Box | None = None) -> Image:
    """The original with `drawn` (RGB, sRGB) laid over it as densely as the mask (L, of the original's size) is white.

    With a box, `drawn` is that part alone; it is resized to it, and the mask counts only there. The result has the
    original's mode and colour profile, and where the mask is black its pixels, hidden colours and transparency.
    """
    from PIL.Image import Resampling

    original = opened.original
    if mask.size != original.size:
        sizes = "{}x{}, the picture {}x{}".format(*mask.size, *original.size)
        raise ImageError(f"the mask is {sizes}; choose --fit crop, pad or stretch")
    box = box or (0, 0, *original.size)
    size = (box[2] - box[0], box[3] - box[1])
    if drawn.size != size:
        drawn = drawn.resize(size, Resampling.LANCZOS)
    drawn, mask = as_in(opened, drawn), mask.crop(box)
    if opened.alpha is None:
        result = original.copy()
        result.paste(drawn, box[:2], mask)
        return result
    result = original.convert("RGBA")  # and back, which alters no grey
    result.alpha_composite(joined(drawn.convert("RGB"), mask), box[:2])
    return result.convert(original.mode)


def as_in(opened: OpenedImage, image: Image) -> Image:
    """An sRGB image in the colours of the original: its profile, and grey if it is grey."""
    mode = opened.original.mode.removesuffix("A")
    moved = from_srgb(image, opened.icc, mode) if opened.icc else None
    return moved or image.convert(mode)
