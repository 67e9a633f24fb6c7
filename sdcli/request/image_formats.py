"""Kinds: what a file that should be a picture is, by its first bytes."""

from __future__ import annotations

import re

from sdcli.errors import ImageError

HEAD = 256  # bytes that are enough to tell
READ = {
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "JPEG": rb"\xff\xd8\xff",
    "WEBP": rb"RIFF....WEBP",
    "GIF": rb"GIF8[79]a",
    "BMP": rb"BM",
}  # Pillow's names. Not TIFF, EPS or PSD: large decoders that little else here needs, and where its holes were found.
_SAVE = "save it as a PNG, JPEG or WebP"
_REFUSED = [
    (rb"....ftyp(hei|hev|mif1|msf1)", "a HEIC picture", _SAVE),
    (rb"....ftypavi", "an AVIF picture", _SAVE),
    (rb"\xff\x0a|....JXL ", "a JPEG XL picture", _SAVE),
    (rb"....jP  |\xff\x4f\xff\x51", "a JPEG 2000 picture", _SAVE),
    (rb"II[*+]\0|MM\0[*+]", "a TIFF picture", _SAVE),
    (rb"8BPS", "a Photoshop file", _SAVE),
    (rb"%PDF", "a PDF", "save the page as a PNG"),
    (rb"\s*(<\?xml[^>]*>\s*)?(<!--.*|<!DOCTYPE svg.*)?<svg", "an SVG drawing", "render it to a PNG"),
    (rb"\s*<(!doctype html|html)", "a web page", "download the picture itself"),
    (rb"version https://git-lfs", "a git-lfs pointer", "run `git lfs pull`"),
    (rb".{4}\0{4}\s*{", "a safetensors file", "models go to -m, latents to --latents-in"),
    (rb"PK\x03\x04", "a zip archive", "unpack it"),
    (rb"[\t\n\r\x20-\x7e\x80-\xff]+$", "text", "check the path"),
]


def recognise(head: bytes, name: str) -> str:
    """Pillow's name for the kind of picture that begins with `head`; raises ImageError for what is not read."""
    if not head:
        raise ImageError(f"{name}: is empty; copy or download it again")
    for kind, pattern in READ.items():
        if re.match(pattern, head, re.DOTALL):
            return kind
    for pattern, what, step in _REFUSED:
        if re.match(pattern, head, re.DOTALL | re.IGNORECASE):
            raise ImageError(f"{name}: is {what}, which is not read as a picture; {step}")
    raise ImageError(f"{name}: is not a picture that is known here; {_SAVE}")
