"""Masks: which part of a picture is repainted: white is, black keeps its pixels, grey is in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdcli.errors import ImageError
from sdcli.request.images import OpenedImage, Source, flat, open_picture
from sdcli.request.resize import fit_mask

if TYPE_CHECKING:
    from PIL.Image import Image

Box = tuple[int, int, int, int]  # left, top, right, bottom


def read_mask(
    source: Source | OpenedImage, name: str = "", *, invert: bool = False, from_alpha: bool = False
) -> Image:
    """The mask (L) that a picture is: its lightness, where it is not transparent; or its transparency instead.

    Lightness is taken as the file has it, without a colour profile. Raises ImageError for a picture that is bad, or
    that should be transparent and is not.
    """
    from PIL import ImageChops

    opened = source if isinstance(source, OpenedImage) else open_picture(source, name)
    if from_alpha:
        if opened.alpha is None:
            raise ImageError(f"{opened.name}: has no transparency to take a mask from; give one with --mask")
        mask = ImageChops.invert(opened.alpha)
    else:
        mask = opened.original.convert("L")
        if opened.alpha is not None:
            mask = flat(mask, opened.alpha, 0)
    return ImageChops.invert(mask) if invert else mask


def prepare_mask(
    mask: Image, width: int, height: int, how: str = "error", *, blur: float = 0.0, grow: int = 0
) -> Image:
    """The mask at the size of the picture: fitted like it, grown by `grow` pixels (shrunk if negative), then blurred.

    `blur` is the standard deviation of the blur in pixels.
    """
    from PIL import ImageChops, ImageFilter

    mask = fit_mask(mask, width, height, how)
    if grow > 0:
        mask = _grown(mask, grow)
    elif grow < 0:
        mask = ImageChops.invert(_grown(ImageChops.invert(mask), -grow))
    return mask.filter(ImageFilter.GaussianBlur(blur)) if blur > 0 else mask


def region(mask: Image, padding: int, width: int, height: int) -> Box:
    """The part of the picture to draw at width x height: what the mask selects, padded, and widened to their ratio.

    It stays inside the picture, and so can be of another ratio where the picture ends. Raises ImageError for a mask
    that selects nothing.
    """
    box = mask.getbbox()
    if box is None:
        raise ImageError(
            "the mask selects nothing: all of it is black; paint white what is to change, or invert it"
        )
    left, right = _padded(box[0], box[2], padding, mask.width)
    top, bottom = _padded(box[1], box[3], padding, mask.height)
    left, right = _widened(left, right, round((bottom - top) * width / height), mask.width)
    top, bottom = _widened(top, bottom, round((right - left) * height / width), mask.height)
    return left, top, right, bottom


def _grown(mask: Image, radius: int) -> Image:
    """Each pixel becomes the lightest within a disc: row by row, by the running maxima of 2^k pixels along a row."""
    import numpy as np
    from PIL import Image

    pixels = np.asarray(mask)
    height, width = pixels.shape
    radius = min(radius, width + height)
    runs = [np.pad(pixels, ((0, 0), (radius, radius)))]
    while 2 ** len(runs) <= 2 * radius + 1:
        half = 2 ** (len(runs) - 1)
        runs.append(np.maximum(runs[-1][:, :-half], runs[-1][:, half:]))
    grown = pixels.copy()
    for down in range(min(radius, height - 1) + 1):
        reach = int((radius**2 - down**2) ** 0.5)
        run = (2 * reach + 1).bit_length() - 1
        first, last = radius - reach, radius + reach + 1 - 2**run
        row = np.maximum(runs[run][:, first : first + width], runs[run][:, last : last + width])
        np.maximum(grown[down:], row[: height - down], out=grown[down:])
        np.maximum(grown[: height - down], row[down:], out=grown[: height - down])
    return Image.fromarray(grown)


def _padded(start: int, end: int, padding: int, limit: int) -> tuple[int, int]:
    return max(0, start - padding), min(limit, end + padding)


def _widened(start: int, end: int, least: int, limit: int) -> tuple[int, int]:
    """The span made at least so long, to both sides alike, and shifted back to within the limit."""
    length = min(limit, max(least, end - start))
    start = min(max(0, start - (length - (end - start)) // 2), limit - length)
    return start, start + length
