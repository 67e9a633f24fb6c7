"""Outpaint: extend a picture beyond its edges, and make the mask of the new part."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from sdcli.errors import ImageError, UsageError
from sdcli.request.composite import to_original_colours
from sdcli.request.images import MAX_PIXELS, OpenedImage, add_alpha

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

# Standard deviations in pixels. At 4 pixels from the picture the blur is 4, at 16 it is 16, from 64 on it is 64;
# between these distances, two blurs are blended. At the edge of the picture there is none.
_BLURS = (4, 16, 64)

Margins = tuple[int, int, int, int]  # pixels at left, top, right, bottom


def outpaint(
    opened: OpenedImage, left: int = 0, top: int = 0, right: int = 0, bottom: int = 0
) -> tuple[OpenedImage, Image]:
    """The picture extended by so many pixels on each side, and its mask (L): the new part is white.

    The new part is opaque. It continues the edge pixels of the picture outwards, blurred more with the distance, which
    gives the run the right colours to start from, and no shapes. To feather the mask into the picture:
    `prepare_mask(mask, …, grow=3 * blur, blur=blur)`. Raises UsageError if nothing is added, ImageError if the result
    is too large.
    """
    from PIL import Image

    margins = (left, top, right, bottom)
    if min(margins) < 0 or not any(margins):
        raise UsageError("outpaint needs pixels to add on some side, and none below 0; try --left 128")
    width, height = opened.image.size
    size = (left + width + right, top + height + bottom)
    if size[0] * size[1] > MAX_PIXELS:
        raise ImageError(
            f"{opened.name}: would be {size[0]}x{size[1]} pixels, more than can be drawn; add fewer"
        )
    mask = Image.new("L", size, 255)
    mask.paste(0, (left, top, left + width, top + height))
    image = _extend(opened.image, margins)
    original = to_original_colours(opened, image)
    alpha = None
    if opened.alpha is not None:
        alpha = Image.new("L", size, 255)
        original = add_alpha(original, alpha)
        alpha.paste(opened.alpha, (left, top))
    original.paste(opened.original, (left, top))
    return dataclasses.replace(opened, image=image, alpha=alpha, original=original), mask


def _extend(image: Image, margins: Margins) -> Image:
    """The image with margins that continue its edge pixels, blurred more the further out they are."""
    import numpy as np
    from PIL import Image, ImageFilter

    left, top, right, bottom = margins
    dx = _distance_outside(left, image.width, right)
    dy = _distance_outside(top, image.height, bottom)
    distance = np.hypot(dx[None, :], dy[:, None])
    edges = _continue_edges(image, margins)
    extended = edges.copy()
    start = 0
    for blur in _BLURS:
        weight = ((distance - start) / (blur - start)).clip(0, 1) * 255
        blurred = edges.filter(ImageFilter.GaussianBlur(blur))
        extended.paste(blurred, mask=Image.fromarray(weight.astype(np.uint8)))
        start = blur
    extended.paste(image, (left, top))
    return extended


def _continue_edges(image: Image, margins: Margins) -> Image:
    """The image with margins, each pixel replaced by the nearest one on the edge of the image.

    That goes for the pixels inside the image too, so that blurring takes in nothing but edge pixels.
    """
    import numpy as np
    from PIL import Image

    left, top, right, bottom = margins
    last_x, last_y = image.width - 1, image.height - 1
    x = np.arange(-left, image.width + right).clip(0, last_x)
    y = np.arange(-top, image.height + bottom)[:, None].clip(0, last_y)
    edge_x, edge_y = np.where(2 * x < last_x, 0, last_x), np.where(2 * y < last_y, 0, last_y)
    sideways = abs(x - edge_x) <= abs(y - edge_y)
    return Image.fromarray(np.asarray(image)[np.where(sideways, y, edge_y), np.where(sideways, edge_x, x)])


def _distance_outside(before: int, length: int, after: int) -> np.ndarray:
    """The distance in pixels of each pixel of a row from the image in it, which is `length` long; 0 inside."""
    import numpy as np

    position = np.arange(-before, length + after)
    return np.maximum(0, np.maximum(-position, position - length + 1))
