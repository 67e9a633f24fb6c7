"""Shared keys: what a job says beside the fields of a Request, which its defaults may say too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sdcli.errors import UsageError
from sdcli.request.jobfile.batch_job import Tolerance
from sdcli.request.jobfile.nodes import Faults, Node, kind_of, text_in
from sdcli.request.jobfile.values import Stated

MAX_COUNT = 1_000_000


@dataclass(frozen=True)
class Shared:
    """What a job says beside the fields of a Request."""

    name: str = ""
    count: int = 1
    out: str | None = None
    expand: str = "draw"
    tolerance: Tolerance = field(default_factory=Tolerance)


def shared_of(said: Mapping[str, Stated], faults: Faults) -> Shared:
    """What an entry says under these keys; what is wrong is a fault, and left out."""
    found: dict[str, Any] = {}
    for key, read in _READERS.items():
        if key in said and said[key].node.value is not None:
            node, place = said[key]
            try:
                found[key] = read(node, place.texts)
            except UsageError as error:
                faults.add(place.source(node), error)
    return Shared(**found)


def _name(node: Node, texts: bool) -> str:
    name = text_in(node, "name").strip()
    if not name.isprintable() or len(name) > 500:
        raise UsageError("name: is one line of at most 500 characters; shorten it")
    return name


def _count(node: Node, texts: bool) -> int:
    value = node.value
    if texts and isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        value = int(value[:20])
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_COUNT:
        raise UsageError(f"count: {node.plain()!r} is not a whole number in 1...{MAX_COUNT}")
    return value


def _out(node: Node, texts: bool) -> str:
    out = text_in(node, "out")
    if out.strip() == "-":
        raise UsageError("out: the pictures of a batch cannot go to standard output; name a folder or a file")
    return out


def _expand(node: Node, texts: bool) -> str:
    if node.value not in ("all", "draw"):
        raise UsageError(f"expand: {node.plain()!r} is unknown; it is all, or draw, which the seed decides")
    return str(node.value)


def _tolerance(node: Node, texts: bool) -> Tolerance:
    if not isinstance(node.value, dict):
        raise UsageError(f"tolerance: {kind_of(node.value)} is not a mapping; write {{max: 2, psnr: 65}}")
    found: dict[str, Any] = node.plain()
    for key, value in found.items():
        if key not in ("max", "psnr"):
            raise UsageError(f"tolerance: {key!r} is unknown; it has max and psnr")
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 <= value <= 255 or (key == "max" and not isinstance(value, int)):
            kind = "whole number" if key == "max" else "number"
            raise UsageError(f"tolerance: {key}: {value!r} is not a {kind} in 0...255")
    return Tolerance(**found)


_READERS = {"name": _name, "count": _count, "out": _out, "expand": _expand, "tolerance": _tolerance}
