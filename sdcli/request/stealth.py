"""Stealth metadata: texts in the lowest bits of a picture, as stealth-pnginfo and NovelAI write them.

They are those of its alpha, one bit a pixel, or of its colours, three bits a pixel, down each column from the left one
to the right: a mark of 15 bytes, the number of bits that follow in 32 bits, and the text in UTF-8, compressed by gzip
where the mark says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdcli.request.exif_texts import comment_texts
from sdcli.request.png_chunks import MAX_TEXT_BYTES, decompressed

if TYPE_CHECKING:
    from PIL.Image import Image

_MARKS = {  # mark -> whether it is in the alpha, whether the text is compressed
    b"stealth_pnginfo": (True, False), b"stealth_pngcomp": (True, True),
    b"stealth_rgbinfo": (False, False), b"stealth_rgbcomp": (False, True),
}  # fmt: skip
_HEAD = 15 + 4  # bytes of the mark and of the length
_GZIP = 16 + 15  # zlib's number for data in gzip's format
_BITS = bytes(ord("0") + (value & 1) for value in range(256))


def stealth_texts(image: Image) -> dict[str, str]:
    """The texts hidden in an image, by the keywords that they have in a PNG; none if there are none."""
    for in_alpha in (True, False):
        if in_alpha and image.mode != "RGBA":
            continue
        head = _lowest_bits(image, in_alpha, _HEAD)
        mark, bits = head[:15], int.from_bytes(head[15:], "big")
        if mark not in _MARKS or _MARKS[mark][0] != in_alpha or bits > 8 * MAX_TEXT_BYTES:
            continue
        body = _lowest_bits(image, in_alpha, _HEAD + bits // 8)[_HEAD:]
        data = decompressed(body, MAX_TEXT_BYTES, _GZIP) if _MARKS[mark][1] else body
        if data and len(body) == bits // 8:
            return comment_texts(data.decode("utf-8", "replace"))
    return {}


def _lowest_bits(image: Image, in_alpha: bool, length: int) -> bytes:
    """The first `length` bytes, or fewer, of the lowest bits of the alpha, or of the colours."""
    from PIL.Image import Transpose

    pixels = -(-8 * length // (1 if in_alpha else 3))
    columns = min(image.width, -(-pixels // image.height))
    part = image.crop((0, 0, columns, image.height))
    part = part.getchannel("A") if in_alpha else part.convert("RGB")
    bits = part.transpose(Transpose.TRANSPOSE).tobytes()[: 8 * length].translate(_BITS)
    bits = bits[: len(bits) // 8 * 8]
    return int(bits, 2).to_bytes(len(bits) // 8, "big") if bits else b""
