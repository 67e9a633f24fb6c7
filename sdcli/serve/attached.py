"""Attached: pictures for control networks, IP-Adapters, references and regions, which are sent inside of their options.

On the command line such a picture is a path in a text: `canny:image=edges.png:weight=0.8`. In a body, the option is an
object that holds the picture itself, and becomes that text, in which the picture's name stands for it:

    control     {"file": "canny", "image": PICTURE, "weight": 0.8, …}; without an image, the start picture is shown
    ip_adapter  {"file": "face", "image": PICTURE, "encoder": "vit-h", "weight": 0.6, …}
    reference   {"image": PICTURE, "fidelity": 0.5, …}
    region      {"prompt": "a cat", "mask": PICTURE, "strength": 0.5}
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sdcli.errors import UsageError
from sdcli.request import controls, ip_adapters, reference, regions
from sdcli.request.inline_image import InlineImage
from sdcli.request.request import Request

Attach = Callable[[str, object], InlineImage]
"""(where it is, for errors; what was sent) -> a picture whose name stands for it."""
_NAMELESS = re.compile(r"picture-[0-9a-f]{8}\.png")


def name_of(picture: InlineImage) -> str:
    """The name that stands for a picture: its own, or one that its bytes decide."""
    return (
        f"picture-{hashlib.sha256(picture.png).hexdigest()[:8]}.png" if picture.name == "-" else picture.name
    )


def is_nameless(name: str) -> bool:
    """True for a name that `name_of` made."""
    return _NAMELESS.fullmatch(name) is not None


# --- an object as the text of the command line


def text_of(field: str, value: Mapping[str, Any], attach: Attach) -> str:
    """The text of one option; raises UsageError and ImageError."""
    return _region(value, attach) if field == "region" else _with_settings(field, value, attach)


def _with_settings(field: str, value: Mapping[str, Any], attach: Attach) -> str:
    file, image = value.get("file"), value.get("image")
    has_file = field != "reference"
    if has_file and not (isinstance(file, str) and file):
        raise UsageError(f'{field}: names no file; send {{"file": name, "image": base64, …}}')
    if image is None and field != "control":
        raise UsageError(f"{field}: shows no picture; send it as image, in base64")
    picture = None if image is None else attach(f"{field}.image", image)
    parts = [str(file)] if has_file else [name_of(picture)] if picture else []
    for name, setting in value.items():
        if (name == "file" and has_file) or (name == "image" and not has_file) or setting is None:
            continue
        parts.append(f"{name}={_setting(f'{field}.{name}', setting, picture if name == 'image' else None)}")
    text = ":".join(parts)
    if names_in(field, text) != ([name_of(picture)] if picture else []):
        raise UsageError(f"{field}: the picture's name, or a setting, cannot be written as {text!r:.100}")
    return text


def _setting(where: str, value: object, picture: InlineImage | None) -> str:
    if picture is not None:
        return name_of(picture)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, str | int | float):
        raise UsageError(f"{where:.80}: is no text and no number")
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _region(value: Mapping[str, Any], attach: Attach) -> str:
    prompt, mask, strength = value.get("prompt"), value.get("mask"), value.get("strength")
    if unknown := value.keys() - {"prompt", "mask", "strength"}:
        raise UsageError(f"region: {min(unknown)!r:.80} is no part of it; send prompt, mask and strength")
    if not isinstance(prompt, str) or mask is None:
        raise UsageError('region: is no {"prompt": text, "mask": base64}; a box is a text: "a cat@0,0,0.5,1"')
    name = name_of(attach("region.mask", mask))
    text = f"{prompt}@{name}" + (
        "" if strength is None else f",{_setting('region.strength', strength, None)}"
    )
    if regions.parse(text).mask != name:
        raise UsageError(f"region.mask: its name {name!r:.80} cannot stand in a region; send another")
    return text


# --- the names in texts


def names_in(field: str, text: str) -> list[str]:
    """The pictures that the text of one option names; raises UsageError for a text that cannot be read."""
    name = {
        "control": lambda: controls.parse(text).image,
        "ip_adapter": lambda: ip_adapters.parse(text).image,
        "reference": lambda: reference.parse(text).image,
        "region": lambda: regions.parse(text).mask,
    }[field]()
    return [name] if name else []


FIELDS = ("control", "ip_adapter", "reference", "region")
"""The fields of a Request that `text_of` knows."""


def names_of(request: Request) -> Iterator[str]:
    """The pictures that these fields of a request name."""
    for field in FIELDS:
        value = getattr(request, field)
        for text in value if isinstance(value, tuple) else [value] if value else []:
            yield from names_in(field, text)
