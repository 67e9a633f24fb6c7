"""ICC: convert pictures from the colours of an ICC profile to sRGB, and back."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

_MODES = {
    b"RGB ": "RGB",
    b"GRAY": "L",
    b"CMYK": "CMYK",
}  # colour space in a profile's header -> Pillow's mode


def to_srgb(image: Image, icc: bytes) -> Image | None:
    """The image (L, RGB, CMYK) converted from a profile to sRGB, as RGB.

    None if the profile is damaged or made for another mode.
    """
    mode = _mode_of(icc)
    if mode == "RGB" and image.mode == "L":
        image = image.convert("RGB")
    return _convert(image, icc, None, "RGB") if image.mode == mode else None


def from_srgb(image: Image, icc: bytes, mode: str) -> Image | None:
    """The image (RGB, sRGB) converted to a profile, as L or RGB.

    None if the profile is damaged, or only converts to sRGB and not back.
    """
    profile_mode = _mode_of(icc)
    converted = _convert(image, None, icc, profile_mode) if profile_mode in ("L", "RGB") else None
    return converted.convert(mode) if converted else None


def _mode_of(icc: bytes) -> str | None:
    return _MODES.get(icc[16:20])


def _convert(image: Image, source: bytes | None, target: bytes | None, mode: str) -> Image | None:
    """The image converted from one profile to another (None is sRGB); None if Pillow cannot do it."""
    from PIL import ImageCms

    source_profile, target_profile = (
        ImageCms.createProfile("sRGB") if icc is None else io.BytesIO(icc) for icc in (source, target)
    )
    try:
        return ImageCms.profileToProfile(
            image,
            source_profile,
            target_profile,
            renderingIntent=ImageCms.Intent.PERCEPTUAL,
            outputMode=mode,
        )
    except (OSError, ValueError, ImageCms.PyCMSError):
        return None
