"""PNG chunks: the parts of a PNG file, and the texts and the colour profile in them, whatever their size.

Pillow refuses the whole picture for one text or profile of more than 1 MiB, so these are read here, and only what
decides the pixels is handed to it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_PROFILE_BYTES = 16 * 1024 * 1024  # decompressed; the largest profiles in use have about 4 MiB
MAX_TEXT_BYTES = 16 * 1024 * 1024  # of one text, decompressed
MAX_TEXTS_BYTES = 64 * 1024 * 1024  # of all texts of a file
PILLOW_READS = 1024 * 1024  # bytes of a text or profile, decompressed, that Pillow reads
_DECIDES_PIXELS = (
    b"tRNS",
    b"acTL",
    b"fcTL",
    b"fdAT",
    b"eXIf",
)  # besides the chunks that every reader must know
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_TURNS = ("XML:com.adobe.xmp", "Raw profile type exif")  # texts that may say which side of the picture is up


@dataclass(frozen=True)
class Chunk:
    """A chunk of a PNG: its kind, such as IDAT, its data, and where it starts and ends in the file."""

    kind: bytes
    data: bytes
    start: int
    end: int


def chunks(png: bytes) -> Iterator[Chunk]:
    """The chunks of a PNG file up to its end, or up to where it is cut short; checksums are not checked."""
    start = len(SIGNATURE)
    while start + 12 <= len(png):
        length, kind = struct.unpack_from(">I4s", png, start)
        end = start + 12 + length
        if end > len(png):
            return
        yield Chunk(kind, png[start + 8 : end - 4], start, end)
        if kind == b"IEND":
            return
        start = end


def pixels_only(png: bytes) -> tuple[bytes, bytes | None]:
    """(the PNG without what does not decide its pixels, its colour profile or None).

    What comes after a damage is kept as it is, so that whoever decodes it finds the damage. A profile that cannot be
    decompressed is given as it is.
    """
    kept, profile, end = [SIGNATURE], None, len(SIGNATURE)
    for chunk in chunks(png):
        end = chunk.end
        if chunk.kind == b"iCCP":
            profile = _profile(chunk.data)
        elif _decides_pixels(chunk):
            kept.append(png[chunk.start : chunk.end])
    if kept[-1][4:8] != b"IEND":
        kept.append(png[end:])
    return b"".join(kept), profile


def texts(png: bytes) -> dict[str, str]:
    """The texts of a PNG by their keywords: all that are whole, up to 64 MiB; of two with one keyword, the last."""
    found: dict[str, str] = {}
    left = MAX_TEXTS_BYTES
    for chunk in chunks(png):
        keyword_and_text = _text(chunk, min(left, MAX_TEXT_BYTES)) if chunk.kind in _TEXTS else None
        if keyword_and_text is not None:
            keyword, text = keyword_and_text
            left -= len(text)
            found[keyword] = text
    return found


def exif(png: bytes) -> bytes | None:
    """The EXIF data of a PNG, if it has any."""
    return next((chunk.data for chunk in chunks(png) if chunk.kind == b"eXIf"), None)


def decompressed(data: bytes, most: int, wbits: int = zlib.MAX_WBITS) -> bytes | None:
    """The data decompressed; None if it is damaged, cut short, or larger than `most` bytes."""
    decompressor = zlib.decompressobj(wbits)
    try:
        result = decompressor.decompress(data, most + 1)
    except zlib.error:
        return None
    return result if decompressor.eof and len(result) <= most else None


def _decides_pixels(chunk: Chunk) -> bool:
    is_critical = not chunk.kind[0] & 0x20  # a capital letter
    if is_critical or chunk.kind in _DECIDES_PIXELS:
        return True
    if chunk.kind not in _TEXTS or chunk.data.partition(b"\0")[0].decode("latin-1") not in _TURNS:
        return False
    return _text(chunk, PILLOW_READS) is not None


def _profile(data: bytes) -> bytes:
    compressed = data.partition(b"\0")[2][1:]  # after the profile's name and the method of compression
    return decompressed(compressed, MAX_PROFILE_BYTES) or data


def _text(chunk: Chunk, most: int) -> tuple[str, str] | None:
    """(keyword, text) of a text chunk; None if it is damaged or has more than `most` bytes."""
    name, _, rest = chunk.data.partition(b"\0")
    keyword = name.decode("latin-1")
    if chunk.kind == b"tEXt":
        return (keyword, _decoded(rest)) if len(rest) <= most else None
    if chunk.kind == b"zTXt":
        body = decompressed(rest[1:], most)
        return None if body is None else (keyword, _decoded(body))
    is_compressed = rest[:1] == b"\1"
    body = rest[2:].split(b"\0", 2)[-1]  # after the language and the translated keyword
    if is_compressed:
        body = decompressed(body, most)
    return None if body is None or len(body) > most else (keyword, body.decode("utf-8", "replace"))


def _decoded(data: bytes) -> str:
    """A text that should be in Latin-1, but is in UTF-8 from some tools, such as stable-diffusion.cpp."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")
