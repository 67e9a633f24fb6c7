"""Fit: a picture or a mask at another size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdcli.errors import ImageError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

FITS = ("crop", "pad", "stretch", "error")


def fit(image: Image, width: int, height: int, how: str, name: str = "the picture") -> Image:
    """The image (L, LA, RGB, RGBA) at another size; itself if it has that size already.

    crop fills the size and cuts what is over, from both sides alike; pad shows the whole image and draws its edges
    out; stretch alters the proportions; error raises ImageError.
    """
    from PIL.Image import Resampling

    return _fitted(image, (width, height), how, name, Resampling.LANCZOS, "edge")


def fit_mask(mask: Image, width: int, height: int, how: str, name: str = "the mask") -> Image:
    """A mask (L) at another size, as `fit` does it with a picture; pad leaves black what it adds.

    The filter is one that does not overshoot, so that black stays black next to white.
    """
    from PIL.Image import Resampling

    return _fitted(mask, (width, height), how, name, Resampling.BILINEAR, "constant")


def _fitted(image: Image, size: tuple[int, int], how: str, name: str, smooth: int, rest: str) -> Image:
    if how not in FITS:
        raise UsageError(f"--fit {how!r} is not known; use crop, pad, stretch or error")
    if image.size == size:
        return image
    if how == "error":
        sizes = "{}x{}, not {}x{}".format(*image.size, *size)
        raise ImageError(f"{name}: is {sizes}; choose --fit crop, pad or stretch")
    if how == "stretch":
        return image.resize(size, smooth)
    across, down = (asked / has for asked, has in zip(size, image.size, strict=True))
    if how == "crop":
        seen = [asked / max(across, down) for asked in size]
        left, top = ((has - part) / 2 for has, part in zip(image.size, seen, strict=True))
        box = (max(left, 0), max(top, 0), min(left + seen[0], image.width), min(top + seen[1], image.height))
        return image.resize(size, smooth, box=box)
    inner = [
        min(asked, max(1, round(has * min(across, down))))
        for asked, has in zip(size, image.size, strict=True)
    ]
    return _padded(image.resize((inner[0], inner[1]), smooth), size, rest)


def _padded(image: Image, size: tuple[int, int], rest: str) -> Image:
    import numpy as np
    from PIL import Image

    pixels = np.asarray(image)
    sides = []
    for asked, has in zip(size[::-1], pixels.shape, strict=False):
        before = (asked - has) // 2
        sides.append((before, asked - has - before))
    sides += [(0, 0)] * (pixels.ndim - 2)
    return Image.fromarray(np.pad(pixels, sides, mode=rest))  # type: ignore[call-overload]
