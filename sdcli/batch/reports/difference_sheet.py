"""Difference sheet: pictures before and now, and what differs between them, as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

Row = tuple[str, "Image", "Image"]
"""(caption, the picture before, the picture now)."""

MARGIN = 8  # pixels
CAPTION = 16  # pixels of height
GAIN = 16  # by which differences are multiplied, so that one of 1 of 255 can be seen


def difference_sheet(rows: Sequence[Row]) -> Image:
    """A row for each pair of pictures: before, now, and the difference times 16, under its caption (RGB)."""
    from PIL import Image, ImageDraw

    bands = [(caption, [before, now, _difference(before, now)]) for caption, before, now in rows]
    width = max(MARGIN + sum(each.width + MARGIN for each in band) for _, band in bands)
    heights = [CAPTION + max(each.height for each in band) + MARGIN for _, band in bands]
    sheet = Image.new("RGB", (width, MARGIN + sum(heights)), "white")
    top = MARGIN
    for (caption, band), height in zip(bands, heights, strict=True):
        ImageDraw.Draw(sheet).text((MARGIN, top), caption.encode("ascii", "replace").decode(), fill="black")
        left = MARGIN
        for each in band:
            sheet.paste(each.convert("RGB"), (left, top + CAPTION))
            left += each.width + MARGIN
        top += height
    return sheet


def _difference(before: Image, now: Image) -> Image:
    """The difference of two pictures, enlarged; black if they cannot be compared."""
    from PIL import Image, ImageChops

    if before.size != now.size:
        return Image.new("RGB", now.size)
    apart = ImageChops.difference(before.convert("RGB"), now.convert("RGB"))
    return apart.point(lambda value: min(255, value * GAIN))
