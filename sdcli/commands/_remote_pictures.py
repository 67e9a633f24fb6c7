"""Remote pictures: those that a request names, read here and put into the fields that are sent to a server."""

from __future__ import annotations

import base64
from typing import Any

from sdcli.commands._streams import standard_input
from sdcli.errors import ImageError
from sdcli.home import expand_home
from sdcli.request import regions
from sdcli.request.file_options import SETTING
from sdcli.request.request import Request


def fields_with_pictures(request: Request) -> dict[str, Any]:
    """The fields of a request that hold or name pictures, with what is in the files, and the names that were typed."""
    paths = {name: getattr(request, name) for name in ("image", "mask", "depth")}
    found: dict[str, Any] = {name: _picture(path) for name, path in paths.items() if isinstance(path, str)}
    found |= {name: [_shown(text) for text in getattr(request, name)] for name in ("control", "ip_adapter")}
    found["region"] = [_masked(text) for text in request.region]
    if request.reference is not None:
        path, *settings = SETTING.split(request.reference)
        found["reference"] = {"image": _picture(path), **_settings(settings)}
    return {name: value for name, value in found.items() if value}


def _picture(path: str) -> dict[str, str]:
    return {"data": base64.b64encode(_read(path)).decode("ascii"), "name": path}


def _shown(text: str) -> str | dict[str, Any]:
    """`FILE:image=PICTURE:…` as an object that holds the picture; without one, the text."""
    path, *settings = SETTING.split(text)
    found = _settings(settings)
    return {"file": path, **found, "image": _picture(found["image"])} if "image" in found else text


def _settings(texts: list[str]) -> dict[str, str]:
    return {name: value for name, _, value in (text.partition("=") for text in texts)}


def _masked(text: str) -> str | dict[str, Any]:
    """`PROMPT@MASK,STRENGTH` as an object that holds the mask; a region in a box is the text."""
    mask = regions.parse(text).mask
    if not mask:
        return text
    prompt, _, place = text.rpartition("@")
    strength = {} if expand_home(place) == mask else {"strength": place.rpartition(",")[2]}
    typed = place.removesuffix("".join(f",{each}" for each in strength.values()))
    return {"prompt": prompt, "mask": _picture(typed), **strength}


def _read(path: str) -> bytes:
    try:
        if path == "-":
            return standard_input("a picture").read()
        with open(expand_home(path), "rb") as file:
            return file.read()
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise ImageError(f"{path}: cannot be read: {reason}; check the path") from None
