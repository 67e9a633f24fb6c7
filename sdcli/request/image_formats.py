"""Image formats: what a file that should be a picture is, by its first bytes, and what to do if it is not read."""

from __future__ import annotations

from collections.abc import Collection

from sdcli.errors import ImageError
from sdcli.file_signatures import HEAD_BYTES, kind_of

HEAD = HEAD_BYTES
"""How many of a file's first bytes `recognise` needs."""

READ = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""The formats that are read, by Pillow's names. Not TIFF, EPS or PSD: their large decoders are rarely needed here, and
most of Pillow's security holes were found in them."""
_CONVERT = "save it as a PNG, JPEG or WebP"
_REFUSED = {
    "HEIC": ("a HEIC picture", _CONVERT),
    "AVIF": ("an AVIF picture", _CONVERT),
    "JPEG XL": ("a JPEG XL picture", _CONVERT),
    "JPEG 2000": ("a JPEG 2000 picture", _CONVERT),
    "TIFF": ("a TIFF picture", _CONVERT),
    "PSD": ("a Photoshop file", _CONVERT),
    "PDF": ("a PDF", "save the page as a PNG"),
    "SVG": ("an SVG drawing", "render it to a PNG"),
    "HTML": ("a web page", "download the picture itself"),
    "XML": ("an XML text", "check the path"),
    "git-lfs": ("a git-lfs pointer", "run `git lfs pull`"),
    "safetensors": ("a safetensors file", "models go to -m, latents to --latents-in"),
    "zip": ("a zip archive", "unpack it"),
    "gzip": ("compressed with gzip", "unpack it"),
    "7z": ("a 7z archive", "unpack it"),
    "RAR": ("a RAR archive", "unpack it"),
    "text": ("text", "check the path"),
}
"""Kind of file -> what to call it, and the next step."""


def recognise(head: bytes, name: str, formats: Collection[str] = READ) -> str:
    """Pillow's name for the format of the picture that begins with `head`; raises ImageError for all that is not read.

    `name` is what the file is called in the message. `formats` are those that are read.
    """
    if not head:
        raise ImageError(f"{name}: is empty; copy or download it again")
    kind = kind_of(head)
    if kind is not None and kind in formats:
        return kind
    if kind in _REFUSED:
        description, next_step = _REFUSED[kind]
        raise ImageError(f"{name}: is {description}, which is not read as a picture; {next_step}")
    raise ImageError(f"{name}: is not a picture that is known here; {_CONVERT}")
