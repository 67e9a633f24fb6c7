"""Image files, colour profiles, pictures and masks for tests; built byte by byte where Pillow writes none."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from sdcli.request.images import OpenedImage, open_image


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG, with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    size: tuple[int, int], depth: int, colour: int, rows: list[bytes], *extra: tuple[bytes, bytes]
) -> bytes:
    """A PNG of any bit depth and colour type, from rows of packed pixels; `extra` chunks come before the pixels."""
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = [(b"IHDR", header), *extra, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    """The image as the bytes of a file, as Pillow writes it."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def opened(image: Image.Image, **options: Any) -> OpenedImage:
    """The image encoded as PNG and opened again, under the name x."""
    return open_image(io.BytesIO(encoded(image, "PNG", **options)), "x")


def random_pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def random_picture(mode: str, width: int = 20, height: int = 10) -> OpenedImage:
    """Random pixels in a mode, with a colour profile where the mode can have one.

    Where the mode has alpha, about a third of the pixels are fully transparent and hide random colours.
    """
    image = Image.fromarray(random_pixels(height, width, 4))
    if mode == "P":
        return opened(image.convert("RGB").quantize(7), transparency=bytes([255, 0, 9]))
    alpha = image.getchannel("A").point(lambda value: value if value > 80 else 0)
    image = image.convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(alpha)
    return opened(image, icc_profile=LINEAR_GREY if mode in ("L", "LA") else RED_IS_GREEN)


def mask_with_box(width: int, height: int, *box: int, value: int = 255) -> Image.Image:
    """A black mask with a white box (left, top, right, bottom); without a box, the whole mask is white."""
    mask = Image.new("L", (width, height))
    mask.paste(value, box or (0, 0, width, height))
    return mask


def icc(space: bytes, pcs: bytes, tags: Mapping[bytes, bytes]) -> bytes:
    """An ICC profile (version 2, for a monitor, or a printer if the colour space is CMYK) with these tags."""
    tags = {b"wtpt": xyz(0.9642, 1, 0.8249), b"cprt": b"text\0\0\0\0CC0\0", b"desc": _description, **tags}
    table, body = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    rest = struct.pack(">I", len(tags)) + table + body
    kind = b"prtr" if space == b"CMYK" else b"mntr"
    header = (
        struct.pack(">I4sI4s4s4s", 128 + len(rest), b"none", 0x02400000, kind, space, pcs)
        + bytes(12)
        + b"acsp"
    )
    header += bytes(28) + struct.pack(">iii", *(int(v * 65536) for v in (0.9642, 1, 0.8249)))
    return header.ljust(128, b"\0") + rest


def xyz(*values: float) -> bytes:
    """An ICC XYZType of three values."""
    return b"XYZ \0\0\0\0" + struct.pack(">iii", *(int(v * 65536) for v in values))


def gamma(value: float) -> bytes:
    """An ICC curveType of one exponent."""
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, int(value * 256))


def lookup_table(inputs: int, corners: list[tuple[int, int, int]]) -> bytes:
    """A lut8Type from `inputs` channels to 8-bit Lab, given at the corners of the cube, the last channel fastest."""
    identity_matrix = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    identity_curve = bytes(range(256))
    head = b"mft1\0\0\0\0" + bytes([inputs, 3, 2, 0]) + identity_matrix
    return head + identity_curve * inputs + b"".join(map(bytes, corners)) + identity_curve * 3


_description = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"made\0" + bytes(4 + 4 + 2 + 1 + 67)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
RED_IS_GREEN = SRGB.replace(b"rXYZ", b"tmp_").replace(b"gXYZ", b"rXYZ").replace(b"tmp_", b"gXYZ")
"""sRGB with the red and green primaries swapped."""
LINEAR_GREY = icc(b"GRAY", b"XYZ ", {b"kTRC": gamma(1)})
"""Grey whose values are proportional to the light."""
ONE_WAY = icc(b"RGB ", b"Lab ", {b"A2B0": lookup_table(3, [(i * 255 // 7, 128, 128) for i in range(8)])})
"""RGB that converts to other profiles, always to greys, but not back."""
INK_IS_LIGHT = icc(
    b"CMYK", b"Lab ", {b"A2B0": lookup_table(4, [(255 * (i % 2), 128, 128) for i in range(16)])}
)
"""CMYK in which the more black ink there is, the lighter the colour."""
