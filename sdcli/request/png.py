"""PNG encoding: every PNG file that `sd` writes is encoded here."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image


def encode_png(
    image: Image,
    texts: Mapping[str, str] | None = None,
    icc_profile: bytes | None = None,
    compress_level: int = 6,
) -> bytes:
    """The image as the bytes of a PNG file; the same arguments always give the same bytes.

    `texts` become text chunks, in their order. `icc_profile` is the colour profile of the pixels; None means sRGB.
    `compress_level` is zlib's, from 1 (fast) to 9 (small).
    """
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    for keyword, text in (texts or {}).items():
        chunks.add_text(keyword, text)
    file = io.BytesIO()
    image.save(file, "PNG", pnginfo=chunks, icc_profile=icc_profile, compress_level=compress_level)
    return file.getvalue()
