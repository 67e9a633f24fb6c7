"""Names of jobs: a template that a job file gives, or its name and the values that tell its jobs apart."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

from sdcli.errors import UsageError
from sdcli.registry import nearest
from sdcli.request.jobfile.keys import DECLARED
from sdcli.request.request import Request

MAX_VALUE = 60  # characters of a value in a name


def job_names(name: str, axes: Sequence[Mapping[str, Any]], requests: Sequence[Request]) -> list[str]:
    """A name for each job of an entry; all are empty if the entry has none.

    A name with {fields} is filled in; {index} counts the entry's jobs from 1. Behind another come the values of the
    axes, as far as they are needed to tell the jobs apart. Raises UsageError for an unknown field.
    """
    keys = _fields_of(name)
    if keys:
        return [
            _filled(name, keys, each, request, i)
            for i, (each, request) in enumerate(zip(axes, requests, strict=True), 1)
        ]
    name = plain_name(name)
    if not name or len(axes) < 2:
        return [name] * len(axes)
    needed = _needed(axes)
    names = ["-".join([name, *(_text(each[axis]) for axis in needed if axis in each)]) for each in axes]
    if len(set(names)) == len(names):
        return names
    return [f"{each}-{i}" for i, each in enumerate(names, 1)]


def plain_name(name: str) -> str:
    """A name without fields, in which a brace itself is written twice; one with fields as it is."""
    return name if _fields_of(name) else name.replace("{{", "{").replace("}}", "}")


def _needed(axes: Sequence[Mapping[str, Any]]) -> list[str]:
    """The axes without which two jobs could not be told apart; of those that step together, the first."""
    needed = list(dict.fromkeys(axis for each in axes for axis in each))

    def distinct(names: Sequence[str]) -> int:
        return len({tuple(str(each.get(axis)) for axis in names) for each in axes})

    wanted = distinct(needed)
    for axis in reversed(needed.copy()):
        fewer = [each for each in needed if each != axis]
        if distinct(fewer) == wanted:
            needed = fewer
    return needed


def _fields_of(name: str) -> list[str]:
    """The {fields} in a name; raises UsageError if it cannot be read."""
    try:
        parts = list(string.Formatter().parse(name))
    except ValueError as error:
        raise UsageError(f"name: {name!r}: {error}; write {{{{ or }}}} for a brace itself") from None
    for _, key, specification, conversion in parts:
        if key is not None and (specification or conversion or not key.isidentifier()):
            raise UsageError(f"name: {name!r}: a field takes no format or attribute; write it like {{seed}}")
    return [key for _, key, _, _ in parts if key is not None]


def _filled(name: str, keys: Sequence[str], axes: Mapping[str, Any], request: Request, index: int) -> str:
    known = (*DECLARED, *axes, "index")
    values: dict[str, str] = {}
    for key in keys:
        if key not in known:
            raise UsageError(f"name: {name!r}: no field is called {key!r}; {nearest(key, known)}")
        value = axes[key] if key in axes else index if key == "index" else getattr(request, key)
        values[key] = _text(value)
    return name.format_map(values)


def _text(value: Any) -> str:
    """A value on one line: whole numbers without a fraction, the items of a list with a comma between them."""
    if isinstance(value, list | tuple):
        value = ",".join(map(str, value))
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return re.sub(r"\s+", " ", text).strip()[:MAX_VALUE].strip()
