"""Reasons: what differs between the recorded facts of two runs, and which of it can explain another rounding."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

Facts = Mapping[str, Any]
"""What the metadata of a picture say: the facts of the run that made it, and under `request` what was asked for."""
Reasons = dict[str, tuple[str, str]]
"""What differs -> what it was and what it is now."""

ROUNDING = (
    "threads",
    "arithmetic",
    "torch",
    "diffusers",
    "transformers",
    "openvino",
    "nncf",
    "batch",
    "sdcli",
)
"""Facts that decide how sums are rounded. They leave the formulas alone, but for a new sdcli, which may mend one."""

DECIDES_LAST_BITS = (
    "model",
    "sdcli",
    "torch",
    "diffusers",
    "transformers",
    "openvino",
    "nncf",
    "device",
    "dtype",
    "threads",
    "arithmetic",
    "batch",
)
"""Recorded facts of a run on which the last bits of its picture depend."""

ADAPTERS = {
    "embeddings": "embedding",
    "loras": "LoRA",
    "hypernets": "hypernetwork",
    "controls": "control",
    "ip_adapters": "IP-Adapter",
    "upscalers": "upscaler",
}
"""Recorded facts of a run that are files by their names -> what such a file is called."""

_OTHERWISE_RECORDED = {
    "model", "vae", "revision", "device", "dtype", "threads", "image", "mask", "depth", "latents_in", "embedding",
}  # fmt: skip
"""Fields of a request that name files or machines, of which the facts say more: hashes, and what was used."""
_ABSENT = "none"


def reasons(before: Facts, now: Facts) -> Reasons:
    """What differs of how two pictures were made, most telling first.

    What only one of them records is no reason, except for files and settings, which are recorded if they are used.
    """
    found: Reasons = {}
    for key in ("model", "upscaler"):
        found |= _differing(key, _file(before.get(key)), _file(now.get(key)))
    for kind, what in ADAPTERS.items():
        old, new = _mapping(before, kind), _mapping(now, kind)
        for name in {**old, **new}:
            found |= _differing(f"{what} {name}", _file(old.get(name)), _file(new.get(name)))
    old, new = _mapping(before, "given"), _mapping(now, "given")
    for what in {**old, **new}:
        found |= _differing(what, _file(old.get(what)), _file(new.get(what)))
    found |= _settings(before, now)
    for key in ("fallback", "batch"):
        found |= _differing(key, _text(before.get(key)), _text(now.get(key)))
    for key in ("device", "dtype", "quality", *ROUNDING):
        if None not in (before.get(key), now.get(key)):
            found |= _differing(key, _text(before[key]), _text(now[key]))
    return found


def explain_rounding(found: Mapping[str, tuple[str, str]]) -> bool:
    """True if the reasons explain that sums were rounded otherwise, and nothing else: the arithmetic is the same."""
    return bool(found) and all(_is_rounding(key, *values) for key, values in found.items())


def told(found: Mapping[str, tuple[str, str]]) -> str:
    """`threads 1 -> 2, torch 2.6 -> 2.7`."""
    return ", ".join(f"{key} {before} -> {now}" for key, (before, now) in found.items())


def _is_rounding(key: str, before: str, now: str) -> bool:
    """A device is a rounding only from one GPU to another: a CPU calculates in other formats and orders."""
    return key in ROUNDING or (key == "device" and "cpu" not in (before, now))


def _settings(before: Facts, now: Facts) -> Reasons:
    """The fields of the request that differ, where both pictures record one; a file counts by its name."""
    old, new = before.get("request"), now.get("request")
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return {}
    found: Reasons = {}
    for name in {**old, **new}:
        if name not in _OTHERWISE_RECORDED:
            found |= _differing(name, _setting(old.get(name)), _setting(new.get(name)))
    return found


def _setting(value: Any) -> str:
    """A setting as text. `loras/style.safetensors@0.8` and `style.safetensors@0.8` are the same setting."""
    if isinstance(value, list | tuple):
        return ", ".join(os.path.basename(str(each)) for each in value) or _ABSENT
    return _text(value)


def _differing(key: str, before: str, now: str) -> Iterable[tuple[str, tuple[str, str]]]:
    return [] if before == now else [(key, (before, now))]


def _file(value: Any) -> str:
    """A file as text: the beginning of its hash, and its family if it says one."""
    if not isinstance(value, Mapping):
        return _text(value)[:12]
    named = filter(None, (value.get("family"), str(value.get("sha256", ""))[:12]))
    return " ".join(map(str, named)) or _text(value)


def _text(value: Any) -> str:
    if value is None:
        return _ABSENT
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _mapping(facts: Facts, key: str) -> Mapping[str, Any]:
    value = facts.get(key)
    return value if isinstance(value, Mapping) else {}
