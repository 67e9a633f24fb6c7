"""Named files: the pictures and adapters that a request names, and the sha256 of each."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

from sdcli import settings
from sdcli.checkpoints import hashes
from sdcli.errors import SdError
from sdcli.request import controls, ip_adapters, loras, reference, regions
from sdcli.request.request import Request
from sdcli.request.weighted_file import parse_weighted_file


def named_files(request: Request) -> list[str]:
    """The path of each picture, latents file and adapter that decides a request's picture, once."""
    return list(dict.fromkeys(filter(None, _named(request))))


def file_digest(path: Path) -> str:
    """The sha256 of a file, or of those in a folder; empty if it cannot be read."""
    try:
        if path.is_dir():  # of an image encoder, for instance
            inside = b"".join(file_digest(each).encode() for each in sorted(path.iterdir()))
            return hashlib.sha256(inside).hexdigest()
        return hashes.digest([path])
    except OSError:
        return ""


def _named(request: Request) -> Iterator[str]:
    for picture in (request.image, request.mask, request.depth, request.latents_in):
        if isinstance(picture, str) and picture != "-":
            yield picture
    yield from request.embedding
    yield request.hires_upscaler
    with contextlib.suppress(SdError):  # whoever draws it says it of the request
        yield from (loras.parse(each).path for each in request.lora)
        yield from (parse_weighted_file("--hypernet", each).path for each in request.hypernet)
        for control in map(controls.parse, request.control):
            yield from (control.path, control.image)
        for adapter in map(ip_adapters.parse, request.ip_adapter):
            yield from (adapter.path, adapter.image, adapter.encoder or str(settings.image_encoder() or ""))
        yield from (regions.parse(each).mask for each in request.region)
        if request.reference is not None:
            yield reference.parse(request.reference).image
