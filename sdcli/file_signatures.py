"""File signatures: what kind of file begins with these bytes, whatever it is called."""

from __future__ import annotations

import re

HEAD_BYTES = 264  # of a file, enough to tell its kind

PICTURES = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "HEIC", "AVIF", "JPEG XL", "JPEG 2000", "TIFF", "PSD")
"""The kinds that are pictures of pixels. The first five go by Pillow's names."""

PICKLES = ("zip", "pickle", "tar")
"""What torch writes pickles as: since 1.6, before it, and before 0.1.10."""

_TEXT_START = rb"(?:\xef\xbb\xbf)?\s*"  # a byte order mark and blank lines may come before markup

_PATTERNS = {
    "PNG": rb"\x89PNG",
    "JPEG": rb"\xff\xd8\xff",
    "WEBP": rb"RIFF....WEBP",
    "GIF": rb"GIF8[79]a",
    "safetensors": rb".{4}\0{4}\s*{",  # the header's length, whose low bytes may look like anything, and the header
    "BMP": rb"BM",
    "HEIC": rb"....ftyp(hei|hev|mif1|msf1)",
    "AVIF": rb"....ftypavi",
    "JPEG XL": rb"\xff\x0a|....JXL ",
    "JPEG 2000": rb"....jP  |\xff\x4f\xff\x51",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "PSD": rb"8BPS",
    "PDF": rb"%PDF",
    "SVG": _TEXT_START + rb"(?i:(<\?xml[^>]*>\s*)?(<!--.*|<!DOCTYPE svg.*)?<svg)",
    "HTML": _TEXT_START + rb"(?i:<!doctype|<html)",
    "XML": _TEXT_START + rb"(?i:<\?xml)",
    "git-lfs": rb"version https://git-lfs",
    "zip": rb"PK\x03\x04",
    "pickle": rb"\x80[\x02-\x05]",
    "tar": rb".{257}ustar",
    "GGUF": rb"GGUF",
    "HDF5": rb"\x89HDF",
    "gzip": rb"\x1f\x8b",
    "7z": rb"7z\xbc\xaf",
    "RAR": rb"Rar!",
    "text": rb"[\t\n\r\x20-\x7e\x80-\xff]+$",
}
"""Kind -> regular expression for the first bytes. The first match counts."""

_COMPILED = {kind: re.compile(pattern, re.DOTALL) for kind, pattern in _PATTERNS.items()}


def kind_of(head: bytes) -> str | None:
    """The kind of file that begins with `head`, its first HEAD_BYTES bytes; None if it is none of these."""
    return next((kind for kind, pattern in _COMPILED.items() if pattern.match(head)), None)
