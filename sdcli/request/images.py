"""Images: the pictures that a Request names: opened, upright, in 8-bit sRGB."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from sdcli.errors import ImageError
from sdcli.request import image_formats
from sdcli.request.icc import from_srgb, to_srgb
from sdcli.request.resize import fit

if TYPE_CHECKING:
    from PIL.Image import Image

Source = str | os.PathLike[str] | BinaryIO
Colour = tuple[int, int, int]

MOST_PIXELS = 8192 * 8192  # the largest picture that can be asked for
LONGEST_SIDE = 65_535  # pixels; JPEG's own limit, and what keeps a thin picture cheap to fit
MOST_BYTES = 256 * 1024 * 1024  # of a file
MOST_SCANS = 100  # of a JPEG; a progressive one has some ten, and each costs time for all its pixels
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
_ORIENTATION = 0x0112  # EXIF's tag for the side that is up
_TURNS = {  # by its value, what makes the picture upright
    2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE",
    6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90",
}  # fmt: skip
_DAMAGED = (  # what Pillow raises for damaged files
    OSError, SyntaxError, ValueError, EOFError, OverflowError, NotImplementedError, IndexError, struct.error,
    zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class OpenedImage:
    """A picture that was opened, and what it takes to paste into it and leave the rest of it as it was."""

    image: Image  # RGB, upright, sRGB, nothing transparent
    alpha: Image | None  # L, if the file has transparency
    original: Image  # L, LA, RGB or RGBA: upright, and else as in the file
    icc: bytes | None  # the colour profile of `original`; None is sRGB
    notes: tuple[str, ...]  # what a user should hear: "first of 12 frames"
    name: str
    sha256: str  # of the file's bytes

    def fitted(self, width: int, height: int, how: str) -> OpenedImage:
        """The same picture at another size, see `fit`; itself if it has that size already."""
        if self.image.size == (width, height):
            return self
        image, original = (fit(each, width, height, how, self.name) for each in (self.image, self.original))
        alpha = original.getchannel("A") if self.alpha else None
        return dataclasses.replace(self, image=image, alpha=alpha, original=original)


def open_picture(source: Source, name: str = "", background: Colour = _WHITE) -> OpenedImage:
    """Open a PNG, JPEG, WebP, GIF or BMP; what is transparent in it shows the background.

    `name` is what the source goes by in messages. Raises ImageError for all that is no whole picture of a sane size.
    """
    name = name or str(source)
    try:
        return _opened(*_read(source, name), name, background)
    except MemoryError:
        raise ImageError(f"{name}: does not fit into memory; make it smaller first") from None


def sha256(path: str | os.PathLike[str]) -> str:
    """The sha256 of a picture's file; raises ImageError if it cannot be read."""
    return hashlib.sha256(_read(path, str(path))[0]).hexdigest()


def _opened(data: bytes, kind: str, name: str, background: Colour) -> OpenedImage:
    image, notes = _decoded(data, kind, name)
    depth = data[24] if kind == "PNG" else 8  # of which Pillow does not tell
    if depth == 16:
        notes.append("16-bit reduced to 8")
    colour, alpha = _planes(image, depth)
    icc = image.info.get("icc_profile") or None
    srgb = to_srgb(colour, icc) if icc else colour.convert("RGB")
    if srgb is None:
        notes.append("its colour profile is damaged or of another kind, and was ignored")
        srgb, icc = colour.convert("RGB"), None
    if colour.mode == "CMYK" or (icc and not from_srgb(srgb.crop((0, 0, 1, 1)), icc, colour.mode)):
        notes.append("converted to sRGB")
        colour, icc = srgb, None
    original = colour
    if alpha is not None:
        original = joined(colour, alpha)
        if alpha.getextrema()[0] != 255:
            notes.append(f"transparency over {_named(background)}")
            srgb = flat(srgb, alpha, background)
    return OpenedImage(srgb, alpha, original, icc, tuple(notes), name, hashlib.sha256(data).hexdigest())


def flat(image: Image, alpha: Image, background: int | Colour) -> Image:
    """The image (L, RGB) over a background, as much of it as its alpha (L) lets be seen."""
    from PIL import Image

    return Image.composite(image, Image.new(image.mode, image.size, background), alpha)


def joined(colour: Image, alpha: Image) -> Image:
    """The image (L, RGB) with an alpha (L) of its own."""
    from PIL import Image

    return Image.merge(f"{colour.mode}A", (*colour.split(), alpha))


def _read(source: Source, name: str) -> tuple[bytes, str]:
    """The bytes of a picture and Pillow's name for its kind, which is asked before the most of it is read."""
    try:
        if not isinstance(source, (str, os.PathLike)):
            return _bytes(source, name)
        with open(source, "rb") as file:
            _check_bytes(os.fstat(file.fileno()).st_size, name)
            return _bytes(file, name)
    except FileNotFoundError:
        raise ImageError(f"{name}: there is no such file; check the path") from None
    except IsADirectoryError:
        raise ImageError(f"{name}: is a folder, not a picture; name a file in it") from None
    except PermissionError:
        raise ImageError(f"{name}: may not be read; check its permissions") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"{name}: cannot be read: {reason.lower()}; check the path") from None


def _bytes(file: BinaryIO, name: str) -> tuple[bytes, str]:
    head = file.read(image_formats.HEAD)
    kind = image_formats.recognise(head, name)
    data = bytearray(head)
    while more := file.read(1 << 20):
        data += more
        _check_bytes(len(data), name)
    return bytes(data), kind


def _check_bytes(number: int, name: str) -> None:
    if number > MOST_BYTES:
        raise ImageError(f"{name}: is larger than {MOST_BYTES >> 20} MiB; save it smaller")


def _decoded(data: bytes, kind: str, name: str) -> tuple[Image, list[str]]:
    """The first frame as Pillow reads it, but upright, and notes on it."""
    from PIL import Image

    notes = []
    if kind == "JPEG" and data.count(b"\xff\xda") > MOST_SCANS:
        raise ImageError(f"{name}: is a JPEG in more passes than are safe to open; save it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image: Image.Image = Image.open(io.BytesIO(data), formats=[kind])
            _check_size(*image.size, name)
            if kind != "JPEG" and getattr(image, "is_animated", False):  # a JPEG's other frames are side data
                many = "many" if kind == "GIF" else image.n_frames  # type: ignore[attr-defined]
                notes.append(f"first of {many} frames")  # a GIF's can only be listing by walking through all
            image.load()
            if image.mode == "P" and image.palette is None:  # which Pillow lets pass
                raise ValueError("a palette is missing")
            return _upright(image), notes
    except Image.DecompressionBombError:
        raise ImageError(
            f"{name}: its header claims more pixels than are safe to open; make it smaller"
        ) from None
    except _DAMAGED:
        raise ImageError(
            f"{name}: is a damaged or cut-short {kind} of {len(data)} bytes; copy or download it again"
        ) from None


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MOST_PIXELS or max(width, height) > LONGEST_SIDE:
        raise ImageError(
            f"{name}: its header claims {width}x{height} pixels, more than are safe to open; make it smaller"
        )


def _upright(image: Image) -> Image:
    from PIL.Image import Transpose

    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except _DAMAGED:
        turn = None  # EXIF that cannot be read; the pixels were
    return image if turn is None else image.transpose(Transpose[turn])


def _planes(image: Image, depth: int) -> tuple[Image, Image | None]:
    """The colours (8-bit L, RGB or CMYK) and the alpha (8-bit L) of an image of any mode that is read."""
    import numpy as np
    from PIL import Image

    if image.mode == "P":
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if image.mode in ("LA", "RGBA"):
        return image.convert(image.mode[:-1]), image.getchannel("A")
    alpha = _keyed(image, depth) if "transparency" in image.info else None
    if image.mode == "I;16":  # convert would cut all above 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return (image.convert("L") if image.mode == "1" else image), alpha


def _keyed(image: Image, depth: int) -> Image:
    """The alpha of an image one of whose colours is transparent; Pillow tells it in the file's own depth."""
    import numpy as np
    from PIL import Image

    values, key = np.asarray(image), np.asarray(image.info["transparency"])
    if values.dtype == bool:
        key = key != 0
    elif depth < 8:
        key = key * 255 // (2**depth - 1)
    elif depth == 16 and values.dtype == np.uint8:
        key = key >> 8  # of RGB, Pillow keeps the upper half
    opaque = values != key
    return Image.fromarray((opaque.any(-1) if opaque.ndim == 3 else opaque).astype(np.uint8) * 255)


def _named(colour: Colour) -> str:
    return {_WHITE: "white", _BLACK: "black"}.get(colour) or "#{:02x}{:02x}{:02x}".format(*colour)
