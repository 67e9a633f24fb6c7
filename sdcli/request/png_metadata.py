"""Metadata: what a picture says of how it was made, whichever format it has and whichever tool wrote it."""

from __future__ import annotations

import io
import json
import os
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from sdcli import registry
from sdcli.errors import ImageError, SdError
from sdcli.request import image_formats, images, png_chunks
from sdcli.request.exif_texts import comment_texts, decode_user_comment, exif_texts, xmp_texts
from sdcli.request.prepare import literal
from sdcli.request.request import Request
from sdcli.request.resize import FIT, Size
from sdcli.request.stealth import stealth_texts

_TELL_HOW = {"sd", "parameters", "prompt", "workflow", "invokeai_metadata", "sd-metadata", "Dream"}


@dataclass(frozen=True)
class PngMetadata:
    """The size of a picture in pixels, its format, and its texts by the keywords that they have in a PNG.

    The texts are those of whichever tool wrote them, from the chunks of a PNG, from EXIF, XMP and comments, or hidden
    in the pixels.
    """

    width: int
    height: int
    texts: Mapping[str, str]
    format: str = "PNG"

    def request(self, path: str) -> Request:
        """The request that makes the picture again; raises ImageError if there is none in it."""
        try:
            facts = self.facts(path)
            request = Request.from_dict(facts["request"])
            return request if "format" in facts else _of_format_1(request, facts)
        except (KeyError, TypeError):
            raise ImageError(f"{path}: its `sd` text holds no request; the file was altered") from None
        except SdError as error:
            raise ImageError(f"{path}: its request cannot be used: {error}") from None

    def facts(self, path: str) -> dict[str, Any]:
        """Everything in the text that sd writes: the request and the facts of the run; raises ImageError."""
        if "sd" not in self.texts:
            raise ImageError(f"{path}: no `sd` metadata in it; was it made by sd, and never re-saved?")
        try:
            facts = json.loads(self.texts["sd"])
        except (ValueError, RecursionError):
            facts = None
        if not isinstance(facts, dict):
            raise ImageError(f"{path}: its `sd` text is not JSON; the file was altered")
        return facts


def _of_format_1(request: Request, facts: Mapping[str, Any]) -> Request:
    """The same picture's request today: version 0.1 counted clip skips from the layer that the family uses.

    It took prompts for plain words.
    SD 2 and SDXL use the penultimate layer, so that its 2 is our 3. Its dpmpp_2m_cfg_pp had another second-order term.
    It cropped masks and depth maps of another size than the picture, which are refused today. It knew no variants.
    """
    variants = literal({"prompt": request.prompt, "negative": request.negative})
    request = request.replace(variants=variants, emphasis="none")
    if request.mask is not None or request.depth is not None:
        request = request.replace(fit=request.fit or FIT)
    if request.sampler == "dpmpp_2m_cfg_pp":
        request = request.replace(sampler="dpmpp_2m_cfg_pp:from_uncond=true")
    model = facts.get("model")
    family = model.get("family") if isinstance(model, dict) else None
    if not request.clip_skip or request.clip_skip == 1 or family not in registry.names("families"):
        return request
    return request.replace(clip_skip=request.clip_skip + registry.find("families", family).clip_skip - 1)


def read_png_metadata(source: str | os.PathLike[str] | BinaryIO, name: str = "") -> PngMetadata:
    """Read what a PNG, JPEG, WebP, AVIF, GIF or BMP says of itself. `name` stands for the source in messages.

    The pixels are decoded only where nothing else says how the picture was made and something may be hidden in them.
    Raises ImageError if the source is missing, unreadable, no picture, or claims an unsafe size.
    """
    path = name or str(source)
    data, format = images.read_file(source, path, (*image_formats.READ, "AVIF"))
    size, texts = (_read_png if format == "PNG" else _read_other)(data, format, path)
    if format in ("PNG", "WEBP") and not _tells_how(texts):
        texts = {**_hidden_texts(data, path), **texts}
    return PngMetadata(*size, texts, format)


def _read_png(data: bytes, format: str, name: str) -> tuple[Size, dict[str, str]]:
    header = next(png_chunks.chunks(data), None)
    if header is None or header.kind != b"IHDR" or len(header.data) != 13:
        raise ImageError(
            f"{name}: is a damaged or cut-short PNG of {len(data)} bytes; copy or download it again"
        )
    width, height = struct.unpack_from(">II", header.data)
    images.check_size(width, height, name)
    exif = png_chunks.exif(data)
    return (width, height), {**_exif_texts(exif), **png_chunks.texts(data)}


def _read_other(data: bytes, format: str, name: str) -> tuple[Size, dict[str, str]]:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=[format])
    except (*images.DAMAGED_FILE_ERRORS, RuntimeError):  # the latter for AVIF
        raise ImageError(
            f"{name}: is a damaged or cut-short {format} of {len(data)} bytes; copy or download it again"
        ) from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name}: its header claims more pixels than are safe to open") from None
    images.check_size(*image.size, name)
    texts: dict[str, str] = {}
    if isinstance(comment := image.info.get("comment"), bytes):
        texts |= comment_texts(decode_user_comment(comment), "comment")
    if isinstance(xmp := image.info.get("xmp"), bytes):
        texts |= xmp_texts(xmp.decode("utf-8", "replace"))
    return image.size, texts | _exif_texts(image.info.get("exif"))


def _exif_texts(data: bytes | None) -> dict[str, str]:
    """The texts in EXIF data; none if it is damaged."""
    from PIL import Image

    exif = Image.Exif()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exif.load(data or b"")
            return exif_texts(exif)
    except (*images.DAMAGED_FILE_ERRORS, KeyError, TypeError):
        return {}


def _tells_how(texts: Mapping[str, str]) -> bool:
    """True if a text says how the picture was made, so that nothing is looked for in its pixels."""
    return bool(texts.keys() & _TELL_HOW) or texts.get("Comment", "").startswith("{")


def _hidden_texts(data: bytes, name: str) -> dict[str, str]:
    try:
        pixels = images.read_pixels(io.BytesIO(data), name)
    except ImageError:
        return {}  # the texts can be read even if the pixels cannot
    image = pixels.colours.convert("RGB")
    return stealth_texts(image if pixels.alpha is None else images.add_alpha(image, pixels.alpha))
