"""Images: open the image files that a request names, upright and in 8-bit sRGB."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import struct
import warnings
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from sdcli.errors import ImageError
from sdcli.request import image_formats, png_chunks
from sdcli.request.icc import from_srgb, to_srgb

if TYPE_CHECKING:
    from PIL.Image import Image

Source = str | os.PathLike[str] | BinaryIO
Colour = tuple[int, int, int]

MAX_PIXELS = 8192 * 8192  # of an image that is read or drawn
MAX_SIDE = 65_535  # pixels; JPEG's own limit, and it keeps the resizing of very thin images cheap
MAX_FILE_BYTES = 256 * 1024 * 1024
FAINT = 8  # a mask or label map of which no value reaches this part of the highest is not meant as light
MAX_JPEG_SCANS = 100  # a progressive JPEG has about ten; each one costs a pass over all pixels
WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
_EXIF_ORIENTATION = 0x0112  # EXIF's tag
_TRANSPOSE_UPRIGHT = {  # EXIF orientation -> the member of Pillow's Transpose that turns the image upright
    2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE",
    6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90",
}  # fmt: skip
DAMAGED_FILE_ERRORS = (  # what Pillow raises for damaged files
    OSError, SyntaxError, ValueError, EOFError, OverflowError, NotImplementedError, IndexError, struct.error,
    zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class OpenedImage:
    """An image file that was opened: the image to draw from, and the original to paste into."""

    image: Image  # RGB, upright, sRGB, transparent parts over the background
    alpha: Image | None  # L, if the file has transparency
    original: Image  # L, LA, RGB or RGBA, upright; otherwise its pixels are those of the file
    icc: bytes | None  # colour profile of `original`; None is sRGB
    notes: tuple[str, ...]  # what the user should know, such as "first of 12 frames"
    name: str  # of the file, for messages
    sha256: str  # of the file's bytes


@dataclass(frozen=True)
class FilePixels:
    """The pixels of an image file, upright and 8-bit, in the colours of the file."""

    colours: Image  # L, RGB or CMYK
    alpha: Image | None  # L, if the file has transparency
    labels: Image | None  # L: white where the file, if it is a label map rather than a picture, has a label
    icc: bytes | None  # colour profile of `colours`
    format: str  # Pillow's name
    notes: tuple[str, ...]  # for the user
    sha256: str  # of the file's bytes


def open_image(source: Source, name: str = "", background: Colour = WHITE) -> OpenedImage:
    """Open a PNG, JPEG, WebP, GIF or BMP; transparent parts are composited over the background.

    `name` stands for the source in messages. Raises ImageError if the source cannot be read, is no image, is damaged,
    or is too large.
    """
    name = name or str(source)
    with _memory_errors(name):
        data, format = read_file(source, name)
        return _open(data, format, name, background)


def read_pixels(source: Source, name: str = "") -> FilePixels:
    """The pixels of an image file, upright and 8-bit, but in its own colours; raises ImageError as `open_image`."""
    name = name or str(source)
    with _memory_errors(name):
        return _decode(*read_file(source, name), name)


def extremes(image: Image) -> tuple[int, int]:
    """The darkest and the lightest value of an image (L)."""
    darkest, lightest = image.getextrema()
    assert isinstance(darkest, int) and isinstance(lightest, int)
    return darkest, lightest


@contextlib.contextmanager
def _memory_errors(name: str) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise ImageError(f"{name}: does not fit into memory; make it smaller first") from None


def flatten_alpha(image: Image, alpha: Image, background: int | Colour) -> Image:
    """The image (L, RGB) composited over a background by its alpha (L)."""
    from PIL import Image

    return Image.composite(image, Image.new(image.mode, image.size, background), alpha)


def add_alpha(image: Image, alpha: Image) -> Image:
    """The image (L, RGB) with an alpha channel (L), as LA or RGBA."""
    from PIL import Image

    return Image.merge(f"{image.mode}A", (*image.split(), alpha))


def _open(data: bytes, format: str, name: str, background: Colour) -> OpenedImage:
    file = _decode(data, format, name)
    original, alpha, icc, notes = file.colours, file.alpha, file.icc, list(file.notes)
    srgb = to_srgb(original, icc) if icc else original.convert("RGB")
    if srgb is None:
        notes.append("its colour profile is damaged or of another kind, and was ignored")
        srgb, icc = original.convert("RGB"), None
    if original.mode == "CMYK" or (icc and not _can_be_kept(icc, srgb, original.mode)):
        notes.append("converted to sRGB")
        original, icc = srgb, None
    if alpha is not None:
        original = add_alpha(original, alpha)
        if alpha.getextrema()[0] != 255:
            notes.append(f"transparency over {_colour_name(background)}")
            srgb = flatten_alpha(srgb, alpha, background)
    return OpenedImage(srgb, alpha, original, icc, tuple(notes), name, file.sha256)


def _can_be_kept(icc: bytes, srgb: Image, mode: str) -> bool:
    """True if the result can have the profile: it converts from sRGB too, and others read a PNG that holds it."""
    return len(icc) <= png_chunks.PILLOW_READS and from_srgb(srgb.crop((0, 0, 1, 1)), icc, mode) is not None


def read_file(source: Source, name: str, formats: Collection[str] = image_formats.READ) -> tuple[bytes, str]:
    """The bytes of an image file, and its format as Pillow names it; raises ImageError if it is in none of these."""
    try:
        if not isinstance(source, (str, os.PathLike)):
            return _read_stream(source, name, formats)
        with open(source, "rb") as file:
            _check_file_size(os.fstat(file.fileno()).st_size, name)
            return _read_stream(file, name, formats)
    except FileNotFoundError:
        raise ImageError(f"{name}: there is no such file; check the path") from None
    except IsADirectoryError:
        raise ImageError(f"{name}: is a folder, not a picture; name a file in it") from None
    except PermissionError:
        raise ImageError(f"{name}: may not be read; check its permissions") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"{name}: cannot be read: {reason.lower()}; check the path") from None


def _read_stream(file: BinaryIO, name: str, formats: Collection[str]) -> tuple[bytes, str]:
    """As `read_file`; a stream that does not start as an image, even an endless one, is refused by its first bytes."""
    head = file.read(image_formats.HEAD)
    format = image_formats.recognise(head, name, formats)
    data = bytearray(head)
    while chunk := file.read(1 << 20):
        data += chunk
        _check_file_size(len(data), name)
    return bytes(data), format


def _check_file_size(size: int, name: str) -> None:
    if size > MAX_FILE_BYTES:
        raise ImageError(f"{name}: is larger than {MAX_FILE_BYTES >> 20} MiB; save it smaller")


def _decode(data: bytes, format: str, name: str) -> FilePixels:
    """The first frame of an image file."""
    image, notes = _first_frame(data, format, name)
    bit_depth = data[24] if format == "PNG" else 8  # from the PNG header; Pillow does not say
    if bit_depth == 16:
        notes.append("16-bit reduced to 8")
    colours, alpha = _split_alpha(image, bit_depth)
    labels, icc = _labels(image), image.info.get("icc_profile") or None
    return FilePixels(colours, alpha, labels, icc, format, tuple(notes), hashlib.sha256(data).hexdigest())


def _first_frame(data: bytes, format: str, name: str) -> tuple[Image, list[str]]:
    """The first frame in Pillow's mode for it, upright, and notes for the user."""
    from PIL import Image

    notes: list[str] = []
    profile = None
    if format == "PNG":
        data, profile = png_chunks.pixels_only(data)
    if format == "JPEG" and data.count(b"\xff\xda") > MAX_JPEG_SCANS:  # start-of-scan markers
        raise ImageError(f"{name}: is a JPEG in more passes than are safe to open; save it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image: Image.Image = Image.open(io.BytesIO(data), formats=[format])
            check_size(*image.size, name)
            if format != "JPEG" and getattr(image, "is_animated", False):  # further JPEG frames are side data
                frames = "many" if format == "GIF" else image.n_frames  # type: ignore[attr-defined]
                notes.append(
                    f"first of {frames} frames"
                )  # counting a GIF's frames means decoding all of them
            image.load()
            if profile is not None:
                image.info["icc_profile"] = profile
            if image.mode == "P" and image.palette is None:  # Pillow lets this pass
                raise ValueError("a palette is missing")
            return _turn_upright(image), notes
    except Image.DecompressionBombError:
        raise ImageError(
            f"{name}: its header claims more pixels than are safe to open; make it smaller"
        ) from None
    except DAMAGED_FILE_ERRORS:
        raise ImageError(
            f"{name}: is a damaged or cut-short {format} of {len(data)} bytes; copy or download it again"
        ) from None


def check_size(width: int, height: int, name: str) -> None:
    """Raise ImageError for a picture of more pixels than are safe to open."""
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise ImageError(
            f"{name}: its header claims {width}x{height} pixels, more than are safe to open; make it smaller"
        )


def _turn_upright(image: Image) -> Image:
    from PIL.Image import Transpose

    try:
        method = _TRANSPOSE_UPRIGHT.get(image.getexif().get(_EXIF_ORIENTATION, 1))
    except DAMAGED_FILE_ERRORS:
        method = None  # the EXIF data is damaged, the pixels are not
    return image if method is None else image.transpose(Transpose[method])


def _split_alpha(image: Image, bit_depth: int) -> tuple[Image, Image | None]:
    """The colours (8-bit L, RGB or CMYK) and the alpha (8-bit L) of an image in any mode that Pillow decodes to."""
    import numpy as np
    from PIL import Image

    if image.mode == "P":
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if image.mode in ("LA", "RGBA"):
        return image.convert(image.mode[:-1]), image.getchannel("A")
    alpha = _alpha_of_colour_key(image, bit_depth) if "transparency" in image.info else None
    if image.mode == "I;16":  # Pillow's convert would clip values above 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return (image.convert("L") if image.mode == "1" else image), alpha


def _labels(image: Image) -> Image | None:
    """White where an image in a mode in which label maps come, but light seldom, has a label, black where it has none.

    A palette with colours and black is one, and 16-bit values all below an eighth of the highest. Otherwise None.
    """
    import numpy as np
    from PIL import Image

    if image.mode == "I;16":
        values = np.asarray(image)
        is_map = values.max() < 2**16 // FAINT
        return Image.fromarray((values > 0).astype(np.uint8) * 255) if is_map else None
    if image.mode != "P":
        return None
    colours = np.asarray(image.convert("RGBA"))[..., :3]
    has_colour, is_black = (colours != colours[..., :1]).any(), ~colours.any(-1)
    return Image.fromarray(np.uint8(255) * ~is_black) if has_colour and is_black.any() else None


def _alpha_of_colour_key(image: Image, bit_depth: int) -> Image:
    """The alpha (L) of an image in which one colour is transparent (PNG's tRNS chunk).

    Pillow gives that colour at the bit depth of the file, but the pixels at its own.
    """
    import numpy as np
    from PIL import Image

    pixels, key = np.asarray(image), np.asarray(image.info["transparency"])
    if pixels.dtype == bool:
        key = key != 0
    elif bit_depth < 8:
        key = key * 255 // (2**bit_depth - 1)
    elif bit_depth == 16 and pixels.dtype == np.uint8:
        key = key >> 8  # Pillow keeps the upper byte of 16-bit RGB
    opaque = pixels != key
    return Image.fromarray((opaque.any(-1) if opaque.ndim == 3 else opaque).astype(np.uint8) * 255)


def _colour_name(colour: Colour) -> str:
    return {WHITE: "white", _BLACK: "black"}.get(colour) or "#{:02x}{:02x}{:02x}".format(*colour)
