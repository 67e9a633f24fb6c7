"""Inline images: pictures that a Python program gives a request as pixels, not by name."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sdcli.errors import UsageError

if TYPE_CHECKING:
    import os
    from typing import TypeAlias

    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    ImageSource: TypeAlias = "str | os.PathLike[str] | Image | NDArray[np.generic] | InlineImage"
    """What names or is a picture in a request: a path, a Pillow image, or a NumPy array of (h, w), (h, w, 3 or 4)."""

_PNG_MODES = ("1", "L", "LA", "P", "I;16", "RGB", "RGBA")


@dataclass(frozen=True)
class InlineImage:
    """A picture as the bytes of a PNG, or of another file. Two of the same bytes are equal, so requests are values.

    `name` is what the metadata of a picture that is made of it record: - is standard input.
    """

    png: bytes = field(repr=False)
    name: str = "-"

    def __str__(self) -> str:
        import hashlib

        return f"picture {hashlib.sha256(self.png).hexdigest()[:8]}"


def is_pixels(value: object) -> bool:
    """True for a Pillow image or a NumPy array; imports neither."""
    return _is_pillow(value) or _is_array(value)


def inline_image(name: str, value: Any) -> InlineImage:
    """A Pillow image or NumPy array as a PNG with its mode, alpha, colour profile and EXIF orientation.

    An array holds 8-bit values, truth values (a mask), or floats in 0 … 1. Raises UsageError, which names the field,
    for another array.
    """
    image = _from_array(name, value) if not _is_pillow(value) else value
    if image.mode not in _PNG_MODES:
        image = image.convert("RGB")
    encoded = io.BytesIO()
    exif = image.getexif()
    more = {"exif": exif} if exif else {}
    image.save(encoded, "PNG", compress_level=1, **more)
    return InlineImage(encoded.getvalue())


def _is_pillow(value: object) -> bool:
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(value, pillow.Image)


def _is_array(value: object) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def _from_array(name: str, array: NDArray[Any]) -> Image:
    import numpy as np
    from PIL import Image

    shape: Sequence[int] = array.shape
    if array.ndim == 3 and shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and shape[2] not in (3, 4)) or 0 in shape:
        raise UsageError(
            f"{name}: an array of shape {tuple(shape)} is no picture; give (height, width), (…, 3) or (…, 4)"
        )
    if array.dtype == bool:
        array = array * np.uint8(255)
    elif np.issubdtype(array.dtype, np.floating) and array.min() >= 0 and array.max() <= 1:
        array = (array * 255).round().astype(np.uint8)
    if array.dtype != np.uint8:
        raise UsageError(f"{name}: an array of {array.dtype} is no picture; give uint8, or floats in 0...1")
    return Image.fromarray(np.ascontiguousarray(array))
