"""Masks: grey images that say which part of a picture is repainted. White is repainted, black is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdcli.errors import ImageError
from sdcli.request.images import OpenedImage, Source, flatten_alpha, open_image
from sdcli.request.resize import fit_mask

if TYPE_CHECKING:
    from PIL.Image import Image

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels


def read_mask(
    source: Source | OpenedImage, name: str = "", *, invert: bool = False, from_alpha: bool = False
) -> Image:
    """The mask (L) in a picture: how light its pixels are; transparent pixels are black, so they are kept.

    `from_alpha` takes the transparent part as the mask instead. Lightness is that of the pixels in the file; a colour
    profile is ignored. Raises ImageError for a bad picture, and for `from_alpha` if the picture has no alpha.
    """
    from PIL import ImageChops

    opened = source if isinstance(source, OpenedImage) else open_image(source, name)
    if from_alpha:
        if opened.alpha is None:
            raise ImageError(f"{opened.name}: has no transparency to take a mask from; give one with --mask")
        mask = ImageChops.invert(opened.alpha)
    else:
        mask = opened.original.convert("L")
        if opened.alpha is not None:
            mask = flatten_alpha(mask, opened.alpha, 0)
    return ImageChops.invert(mask) if invert else mask


def prepare_mask(
    mask: Image, width: int, height: int, fit: str = "error", *, blur: float = 0.0, grow: int = 0
) -> Image:
    """The mask (L) fitted to the size of its picture, then grown, then blurred.

    `grow` is in pixels; below 0 the mask shrinks. `blur` is the standard deviation in pixels.
    """
    from PIL import ImageChops, ImageFilter

    mask = fit_mask(mask, width, height, fit)
    if grow > 0:
        mask = _dilate(mask, grow)
    elif grow < 0:
        mask = ImageChops.invert(_dilate(ImageChops.invert(mask), -grow))
    return mask.filter(ImageFilter.GaussianBlur(blur)) if blur > 0 else mask


def masked_region(mask: Image, padding: int, width: int, height: int) -> Box:
    """The box that --only-masked draws at width x height: the masked part, padded, with the proportions of that size.

    The box stays inside the picture; where the picture is too small, the box has other proportions. Raises ImageError
    for a mask that is all black.
    """
    masked = mask.getbbox()
    if masked is None:
        raise ImageError(
            "the mask selects nothing: all of it is black; paint white what is to change, or invert it"
        )
    left, right = max(0, masked[0] - padding), min(mask.width, masked[2] + padding)
    top, bottom = max(0, masked[1] - padding), min(mask.height, masked[3] + padding)
    left, right = _widen(left, right, round((bottom - top) * width / height), mask.width)
    top, bottom = _widen(top, bottom, round((right - left) * height / width), mask.height)
    return left, top, right, bottom


def _widen(start: int, end: int, length: int, limit: int) -> tuple[int, int]:
    """The span start...end widened evenly to at least this length, and moved to lie within 0...limit."""
    length = min(limit, max(length, end - start))
    start = min(max(0, start - (length - (end - start)) // 2), limit - length)
    return start, start + length


def _dilate(mask: Image, radius: int) -> Image:
    """The mask (L) with each pixel replaced by the lightest one within a disc of this radius in pixels.

    A disc is a stack of horizontal lines. The maximum along a line of any length is that of two overlapping runs of
    2^k pixels, one at each end of it; the maxima of all such runs are computed once for each k.
    """
    import numpy as np
    from PIL import Image

    pixels = np.asarray(mask)
    height, width = pixels.shape
    radius = min(radius, width + height)
    run_maxima = [
        np.pad(pixels, ((0, 0), (radius, radius)))
    ]  # k -> at each pixel, of the 2^k from it to the right
    while 2 ** len(run_maxima) <= 2 * radius + 1:
        half = 2 ** (len(run_maxima) - 1)
        run_maxima.append(np.maximum(run_maxima[-1][:, :-half], run_maxima[-1][:, half:]))
    dilated = pixels.copy()
    for dy in range(min(radius, height - 1) + 1):  # the lines dy above and dy below the centre
        reach = int((radius**2 - dy**2) ** 0.5)
        k = (2 * reach + 1).bit_length() - 1
        first, last = radius - reach, radius + reach + 1 - 2**k
        line = np.maximum(run_maxima[k][:, first : first + width], run_maxima[k][:, last : last + width])
        np.maximum(dilated[dy:], line[: height - dy], out=dilated[dy:])
        np.maximum(dilated[: height - dy], line[dy:], out=dilated[: height - dy])
    return Image.fromarray(dilated)
