"""Resize: fit a picture or a mask to the size that is drawn, in one of the ways of --fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sdcli.errors import ImageError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image, Resampling

FITS = ("crop", "pad", "stretch", "error")
FIT = "crop"  # of a picture, where no other is asked for

Size = tuple[int, int]  # width, height


def fit_image(image: Image, width: int, height: int, fit: str, name: str = "the picture") -> Image:
    """The image (L, LA, RGB, RGBA) at another size; the image itself if it has that size already.

    `fit` is one of FITS. crop fills the size and cuts the same amount from both sides; pad shows the whole image and
    fills the rest with its edge pixels; stretch changes the proportions; error raises ImageError, which names `name`.
    """
    from PIL.Image import Resampling

    return _fit(image, (width, height), fit, name, Resampling.LANCZOS, "edge")


def fit_mask(mask: Image, width: int, height: int, fit: str, name: str = "the mask") -> Image:
    """The mask (L) at another size, fitted as `fit_image` fits a picture, except that pad fills the rest with black.

    The filter is bilinear because it does not overshoot: black stays black next to white.
    """
    from PIL.Image import Resampling

    return _fit(mask, (width, height), fit, name, Resampling.BILINEAR, "constant")


def _fit(
    image: Image, size: Size, fit: str, name: str, filter: Resampling, padding: Literal["edge", "constant"]
) -> Image:
    """`padding` is numpy's mode: "edge" repeats the edge pixels, "constant" is black."""
    if fit not in FITS:
        raise UsageError(f"--fit {fit!r} is not known; use crop, pad, stretch or error")
    if image.size == size:
        return image
    if fit == "error":
        sizes = "{}x{}, not {}x{}".format(*image.size, *size)
        raise ImageError(f"{name}: is {sizes}; choose --fit crop, pad or stretch")
    if fit == "stretch":
        return image.resize(size, filter)
    if fit == "crop":
        return image.resize(size, filter, box=_centre_crop(image.size, size))
    return _pad(image.resize(_size_inside(image.size, size), filter), size, padding)


def _centre_crop(old: Size, new: Size) -> tuple[float, float, float, float]:
    """The largest box in the middle of the old size that has the proportions of the new: left, top, right, bottom."""
    scale = max(new[0] / old[0], new[1] / old[1])
    width, height = new[0] / scale, new[1] / scale
    left, top = (old[0] - width) / 2, (old[1] - height) / 2
    return max(left, 0), max(top, 0), min(left + width, old[0]), min(top + height, old[1])


def _size_inside(old: Size, new: Size) -> Size:
    """The largest size inside the new one that has the proportions of the old, and at least one pixel a side."""
    scale = min(new[0] / old[0], new[1] / old[1])
    width, height = (max(1, round(side * scale)) for side in old)
    return min(new[0], width), min(new[1], height)


def _pad(image: Image, size: Size, padding: Literal["edge", "constant"]) -> Image:
    """The image in the middle of a larger size."""
    import numpy as np
    from PIL import Image

    left, top = (size[0] - image.width) // 2, (size[1] - image.height) // 2
    right, bottom = size[0] - image.width - left, size[1] - image.height - top
    pixels = np.asarray(image)
    sides = [(top, bottom), (left, right), (0, 0)][: pixels.ndim]
    return Image.fromarray(np.pad(pixels, sides, mode=padding))
