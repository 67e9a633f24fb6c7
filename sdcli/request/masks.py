"""Masks: grey images that say which part of a picture is repainted. White is repainted, black is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sdcli.errors import ImageError
from sdcli.request.images import FAINT, FilePixels, OpenedImage, Source, extremes, read_pixels
from sdcli.request.resize import fit_mask

if TYPE_CHECKING:
    from PIL.Image import Image

LOSSY = ("JPEG", "WEBP")  # formats in which a pixel may be a little off, so that faint values are no labels
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels


@dataclass(frozen=True)
class OpenedMask:
    """A mask file that was opened."""

    image: Image  # L, upright; white is repainted
    notes: tuple[str, ...]  # what the user should know, such as how its transparency is understood
    name: str  # of the file, for messages
    sha256: str  # of the file's bytes


def open_mask(source: Source, name: str = "") -> OpenedMask:
    """Open a mask file of any mode. White is repainted, black is kept, grey is repainted partly.

    What counts is how light its pixels are in the file; a colour profile is ignored. There are two exceptions, each of
    which is noted. If some of it is more transparent than not, the transparent part is repainted and no colour counts:
    that is how image editors cut out a hole. If it is a label map, everything that has a label is repainted; label maps
    are those with values below 32 of 255 and those with a palette of colours, in a format without loss. Raises
    ImageError as `open_image`.
    """
    name = name or str(source)
    pixels = read_pixels(source, name)
    mask, note = _meaning(pixels)
    return OpenedMask(mask, pixels.notes + note, name, pixels.sha256)


def _meaning(pixels: FilePixels) -> tuple[Image, tuple[str, ...]]:
    """The mask (L) that the pixels are meant as, and a note if that is not how light they are."""
    from PIL import ImageChops

    most_transparent = 255 if pixels.alpha is None else extremes(pixels.alpha)[0]
    if pixels.alpha is not None and most_transparent < 128:
        return ImageChops.invert(pixels.alpha), (
            "is transparent in places: these are repainted, whatever its colours; --invert-mask repaints the rest",
        )
    light = pixels.colours.convert("L")
    notes = ("its faint transparency is ignored",) if most_transparent < 255 else ()
    labels, lightest = pixels.labels, extremes(light)[1]
    if labels is None and pixels.format not in LOSSY and lightest < 256 // FAINT:
        labels = light.point([0] + [255] * 255)
    if labels is None or not labels.getbbox():
        return light, notes
    return labels, (*notes, "is read as a label map: everything but 0 (black) is repainted")


def mask_from_alpha(opened: OpenedImage) -> Image:
    """The mask (L) of the transparent part of a picture; raises ImageError if the picture has no alpha."""
    from PIL import ImageChops

    if opened.alpha is None:
        raise ImageError(f"{opened.name}: has no transparency to take a mask from; give one with --mask")
    return ImageChops.invert(opened.alpha)


def prepare_mask(
    mask: Image,
    width: int,
    height: int,
    fit: str = "error",
    *,
    invert: bool = False,
    blur: float = 0.0,
    grow: int = 0,
    name: str = "the mask",
) -> Image:
    """The mask (L), inverted, fitted to the size of its picture, then grown, then blurred.

    `grow` is in pixels; below 0 the mask shrinks. `blur` is the standard deviation in pixels. Raises ImageError, which
    names `name`, for a mask of another size if `fit` is "error", and for a mask that selects nothing.
    """
    from PIL import ImageChops, ImageFilter

    mask = fit_mask(ImageChops.invert(mask) if invert else mask, width, height, fit, name)
    if invert:
        _check_selects(mask, name, "what --invert-mask repaints is its black part, of which it has none")
    else:
        _check_selects(mask, name, "all of it is black; paint white what is to change, or use --invert-mask")
    if grow > 0:
        mask = _dilate(mask, grow)
    elif grow < 0:
        mask = ImageChops.invert(_dilate(ImageChops.invert(mask), -grow))
    _check_selects(mask, name, f"--mask-grow {grow} leaves nothing of it; shrink it less")
    mask = mask.filter(ImageFilter.GaussianBlur(blur)) if blur > 0 else mask
    _check_selects(mask, name, f"--mask-blur {blur:g} spreads it so thin that nothing is left; blur it less")
    return mask


def _check_selects(mask: Image, name: str, reason: str) -> None:
    """Raise ImageError for a mask that is all black."""
    if mask.getbbox() is None:
        raise ImageError(f"{name}: the mask selects nothing: {reason}")


def masked_region(mask: Image, padding: int, width: int, height: int) -> Box:
    """The box that --only-masked draws at width x height: the masked part, padded, with the proportions of that size.

    The box stays inside the picture; where the picture is too small, the box has other proportions. The mask must not
    be all black.
    """
    masked = mask.getbbox()
    assert masked is not None
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
