"""Pictures and colour profiles made byte by byte, where Pillow writes none."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageCms


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    size: tuple[int, int], depth: int, colour: int, rows: list[bytes], *extra: tuple[bytes, bytes]
) -> bytes:
    """A PNG of any depth and colour type; `extra` chunks stand before the pixels."""
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = [(b"IHDR", header), *extra, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def icc(space: bytes, pcs: bytes, tags: Mapping[bytes, bytes]) -> bytes:
    """An ICC profile (version 2, a monitor's) of these tags."""
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
    return b"XYZ \0\0\0\0" + struct.pack(">iii", *(int(v * 65536) for v in values))


def gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, int(value * 256))


def table(inputs: int, corners: list[tuple[int, int, int]]) -> bytes:
    """A lut8 from `inputs` channels to 8-bit Lab, given at the corners of the cube, the last channel fastest."""
    one = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    straight = bytes(range(256))
    head = b"mft1\0\0\0\0" + bytes([inputs, 3, 2, 0]) + one
    return head + straight * inputs + b"".join(map(bytes, corners)) + straight * 3


_description = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"made\0" + bytes(4 + 4 + 2 + 1 + 67)
LINEAR_GREY = icc(b"GRAY", b"XYZ ", {b"kTRC": gamma(1)})
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
RED_IS_GREEN = SRGB.replace(b"rXYZ", b"tmp_").replace(b"gXYZ", b"rXYZ").replace(b"tmp_", b"gXYZ")
ONLY_GREY_READ = icc(b"RGB ", b"Lab ", {b"A2B0": table(3, [(i * 255 // 7, 128, 128) for i in range(8)])})
INK_IS_LIGHT = icc(b"CMYK", b"Lab ", {b"A2B0": table(4, [(255 * (i % 2), 128, 128) for i in range(16)])})
