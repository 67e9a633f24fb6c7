"""Encode: a picture as the bytes of a PNG, JPEG or WebP file, with its texts and its colour profile."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sdcli.errors import UsageError
from sdcli.request.exif_texts import exif_data
from sdcli.request.icc import to_srgb
from sdcli.request.images import WHITE, Colour, flatten_alpha
from sdcli.request.png import encode_png

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = {".png": "png", ".jpg": "jpg", ".jpeg": "jpg", ".webp": "webp"}
"""Suffix of a file -> its format. The first is that of a picture for which none is asked."""
MAX_SIDES = {"png": 2**31 - 1, "jpg": 65_500, "webp": 16_383}  # pixels
MAX_JPEG_EXIF = 65_500  # bytes
JPEG_QUALITY = 95
FULL_COLOUR = 90  # from this quality on, a JPEG has colours at full resolution


@dataclass(frozen=True)
class Encoding:
    """The format of a file (png, jpg, webp), how well a lossy one is kept, and what a JPEG has behind transparency.

    `quality` is 1 … 100; None is 95 for a JPEG, and without loss for a WebP. Raises UsageError for a PNG with one.
    """

    format: str = "png"
    quality: int | None = None
    background: Colour = WHITE

    def __post_init__(self) -> None:
        if self.format == "png" and self.quality is not None:
            raise UsageError(
                "--quality is for .jpg and .webp; a .png is without loss: leave it out, or add --format webp"
            )

    @property
    def is_lossless(self) -> bool:
        """True if every pixel can be kept."""
        return self.format == "png" or (self.format == "webp" and self.quality is None)

    def check_size(self, width: int, height: int) -> None:
        """Raise UsageError for a picture that is too large for the format."""
        most = MAX_SIDES[self.format]
        if max(width, height) > most:
            raise UsageError(
                f"the result has {width}x{height} pixels, and a .{self.format} at most {most} a side; write a .png"
            )

    def check_texts(self, texts: Mapping[str, str]) -> None:
        """Raise UsageError for texts that are too long for the format."""
        if self.format == "jpg" and len(exif_data({"sd": texts.get("sd", "")})) > MAX_JPEG_EXIF:
            raise UsageError(
                "the prompts are too long for the metadata of a .jpg; write a .png or .webp, or use --no-metadata"
            )


def encode(image: Image, texts: Mapping[str, str], icc: bytes | None, encoding: Encoding) -> bytes:
    """The image (L, LA, RGB, RGBA) as the bytes of a file; the same arguments always give the same bytes.

    A PNG holds the texts as text chunks; the others in EXIF, where A1111's text is the user comment. In a JPEG that has
    no room for that as well, it is left out. `icc` is the colour profile of the pixels; None means sRGB.
    """
    if encoding.format == "png":
        return encode_png(image, texts, icc)
    if encoding.format == "jpg":
        return _encode_jpeg(image, texts, icc, encoding)
    if image.mode in ("L", "LA") and icc:  # a WebP has colours always, which a profile for greys does not fit
        image, icc = _without_profile(image, icc), None
    more = {"exif": exif_data(texts)} if texts else {}
    loss = {"lossless": True} if encoding.quality is None else {"quality": encoding.quality}
    return _saved(image, "WEBP", icc, **loss, exact=True, **more)


def _encode_jpeg(image: Image, texts: Mapping[str, str], icc: bytes | None, encoding: Encoding) -> bytes:
    if image.mode in ("LA", "RGBA"):
        background = encoding.background if image.mode == "RGBA" else _grey(encoding.background)
        image = flatten_alpha(image.convert(image.mode[:-1]), image.getchannel("A"), background)
    encoding.check_texts(texts)
    exif = exif_data(texts)
    if len(exif) > MAX_JPEG_EXIF:
        exif = exif_data({key: text for key, text in texts.items() if key != "parameters"})
    quality = encoding.quality or JPEG_QUALITY
    colours = {"subsampling": 0} if quality >= FULL_COLOUR else {}
    more = {"exif": exif} if texts else {}
    return _saved(image, "JPEG", icc, quality=quality, optimize=True, **colours, **more)


def _saved(image: Image, format: str, icc: bytes | None, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **({"icc_profile": icc} if icc else {}), **options)
    return file.getvalue()


def _without_profile(image: Image, icc: bytes) -> Image:
    """A grey image (L, LA) in sRGB instead of its profile."""
    grey = image.convert("L")
    colours = to_srgb(grey, icc) or grey.convert("RGB")
    if image.mode == "LA":
        colours.putalpha(image.getchannel("A"))
    return colours


def _grey(colour: Colour) -> int:
    red, green, blue = colour
    return (299 * red + 587 * green + 114 * blue) // 1000
