"""Profiles: from a picture's own colours (ICC) to sRGB, and back."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

_MODES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}  # by what a profile's header says it is for


def to_srgb(image: Image, icc: bytes) -> Image | None:
    """An L, RGB or CMYK image as its profile means it, in sRGB; None if the profile is damaged or of another kind."""
    mode = _MODES.get(icc[16:20])
    if mode == "RGB" and image.mode == "L":
        image = image.convert("RGB")
    return _moved(image, icc, None, "RGB") if image.mode == mode else None


def from_srgb(image: Image, icc: bytes, mode: str) -> Image | None:
    """An sRGB image in the colours of a profile, as L or RGB; None if the profile leads in one direction only."""
    own = _MODES.get(icc[16:20])
    moved = _moved(image, None, icc, own) if own in ("L", "RGB") else None
    return moved.convert(mode) if moved else None


def _moved(image: Image, source: bytes | None, target: bytes | None, mode: str) -> Image | None:
    """The image from one profile to another, perceptually; None stands for sRGB."""
    from PIL import ImageCms

    ends = [ImageCms.createProfile("sRGB") if icc is None else io.BytesIO(icc) for icc in (source, target)]
    try:
        return ImageCms.profileToProfile(
            image, ends[0], ends[1], renderingIntent=ImageCms.Intent.PERCEPTUAL, outputMode=mode
        )
    except (OSError, ValueError, ImageCms.PyCMSError):
        return None
