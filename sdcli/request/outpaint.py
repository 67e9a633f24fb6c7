"""Outpaint: a picture on a larger canvas, and the mask of what is new on it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from sdcli.errors import ImageError, UsageError
from sdcli.request.composite import as_in
from sdcli.request.images import MOST_PIXELS, OpenedImage, joined

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

# Standard deviations of the blurs, and how far from the picture each has taken over, in pixels.
_BLURS = (4, 16, 64)


def outpaint(
    opened: OpenedImage, left: int = 0, top: int = 0, right: int = 0, bottom: int = 0
) -> tuple[OpenedImage, Image]:
    """The picture enlarged by so many pixels on each side, and its mask (L): white is new.

    The new part is opaque: the picture's edges drawn out, the more blurred the further out. Its colours lead on from
    the picture's, its shapes do not. To feather inwards: `prepare_mask(mask, …, grow=3 * blur, blur=blur)`.
    """
    from PIL import Image

    if min(left, top, right, bottom) < 0 or not left + top + right + bottom:
        raise UsageError("outpaint needs pixels to add on some side, and none below 0; try --left 128")
    width, height = opened.image.size
    size = (left + width + right, top + height + bottom)
    if size[0] * size[1] > MOST_PIXELS:
        raise ImageError(
            f"{opened.name}: would be {size[0]}x{size[1]} pixels, more than can be drawn; add fewer"
        )
    mask = Image.new("L", size, 255)
    mask.paste(0, (left, top, left + width, top + height))
    image = _surrounded(opened.image, (left, top, right, bottom))
    original = as_in(opened, image)
    alpha = None
    if opened.alpha is not None:
        alpha = Image.new("L", size, 255)
        original = joined(original, alpha)
        alpha.paste(opened.alpha, (left, top))
    original.paste(opened.original, (left, top))
    return dataclasses.replace(opened, image=image, alpha=alpha, original=original), mask


def _surrounded(image: Image, sides: tuple[int, int, int, int]) -> Image:
    import numpy as np
    from PIL import Image, ImageFilter

    left, top, right, bottom = sides
    across, down = (_outside(*each) for each in ((left, image.width, right), (top, image.height, bottom)))
    distance = np.hypot(across[None, :], down[:, None])  # to the picture, in pixels
    rim, start = _rim(image, sides), 0
    canvas = rim.copy()
    for blur in _BLURS:
        weight = ((distance - start) / (blur - start)).clip(0, 1) * 255
        canvas.paste(
            rim.filter(ImageFilter.GaussianBlur(blur)), mask=Image.fromarray(weight.astype(np.uint8))
        )
        start = blur
    canvas.paste(image, (left, top))
    return canvas


def _rim(image: Image, sides: tuple[int, int, int, int]) -> Image:
    """The canvas with each pixel that of the picture's outermost ones that is nearest, inside the picture too."""
    import numpy as np
    from PIL import Image

    left, top, right, bottom = sides
    x, y = np.arange(-left, image.width + right), np.arange(-top, image.height + bottom)[:, None]
    x, y = x.clip(0, image.width - 1), y.clip(0, image.height - 1)
    near_x, near_y = (
        np.where(2 * at < last, 0, last) for at, last in ((x, image.width - 1), (y, image.height - 1))
    )
    sideways = abs(x - near_x) <= abs(y - near_y)
    return Image.fromarray(np.asarray(image)[np.where(sideways, y, near_y), np.where(sideways, near_x, x)])


def _outside(before: int, length: int, after: int) -> np.ndarray:
    """The distance of each pixel of a row from its middle part."""
    import numpy as np

    place = np.arange(-before, length + after)
    return np.maximum(0, np.maximum(-place, place - length + 1))
