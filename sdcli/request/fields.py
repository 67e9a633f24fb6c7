"""Fields of a request: each is declared once, with its option, type, range and help, and checked by that."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sdcli import registry
from sdcli.errors import UsageError

MAX_TEXT = 20_000  # characters of a text field; a PNG text chunk holds that with room to spare

_TYPE_NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


@dataclass(frozen=True)
class Option:
    """How a field is typed, explained and checked.

    `flags` are its option names on the command line; a field without flags is set by a command itself. `low` and `high`
    are inclusive. `plugin` is the registry kind of a field that names a plugin. `from_model` marks a field whose
    default the model brings. A `many` field holds a tuple of values, and its option may be given several times.
    """

    flags: tuple[str, ...]
    type: type
    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    plugin: str = ""
    from_model: bool = False
    many: bool = False


def option(default: Any, *flags: str, type: type, help: str, **details: Any) -> Any:
    """Declare a field of a request: its default value, its flags, and the details that `Option` lists."""
    return field(default=default, metadata={"option": Option(flags, type, help, **details)})


def option_of(declared: dataclasses.Field[Any]) -> Option:
    """The Option that a field was declared with."""
    found: Option = declared.metadata["option"]
    return found


def spelling(declared: dataclasses.Field[Any]) -> str:
    """The field's name as a user knows it: its long flag, or its plain name if it has none."""
    flags = option_of(declared).flags
    return flags[-1] if flags else declared.name


def own_fields(group: type) -> list[str]:
    """The names of the fields that a dataclass declares itself, without those it inherits, in their order."""
    bases = [base for base in group.__bases__ if dataclasses.is_dataclass(base)]
    inherited = {each.name for base in bases for each in dataclasses.fields(base)}
    return [each.name for each in dataclasses.fields(group) if each.name not in inherited]


def check_fields(values: Any) -> None:
    """Check and normalise every field of a frozen dataclass in place; raises UsageError that names the field."""
    for declared in dataclasses.fields(values):
        value = checked(declared, getattr(values, declared.name))
        object.__setattr__(values, declared.name, value)


def checked(declared: dataclasses.Field[Any], value: Any) -> Any:
    """The value of a field, with whole numbers as floats where the field is a float; raises UsageError."""
    if value is None and declared.default is None:
        return None
    if not option_of(declared).many:
        return _checked_one(declared, value)
    if isinstance(value, str) or not isinstance(value, list | tuple):
        raise UsageError(f"{spelling(declared)}: {value!r} is not a list")
    return tuple(_checked_one(declared, each) for each in value)


def _checked_one(declared: dataclasses.Field[Any], value: Any) -> Any:
    asked, name = option_of(declared), spelling(declared)
    value = _of_type(asked.type, name, value)
    if isinstance(value, str):
        _check_text(name, value)
    if asked.low is not None and asked.high is not None and not asked.low <= value <= asked.high:
        raise UsageError(f"{name}: {value} is outside {asked.low}...{asked.high}")
    if asked.choices and value not in asked.choices:
        raise UsageError(f"{name}: {value!r} is unknown; {registry.nearest(value, asked.choices)}")
    return value


def _of_type(wanted: type, name: str, value: Any) -> Any:
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise UsageError(f"{name}: {value!r} is not {_TYPE_NAMES[wanted]}")
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{name}: {value} is not a finite number")
    return value


def _check_text(name: str, value: str) -> None:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(f"{name}: the text is not valid UTF-8; check the terminal's encoding") from None
    if "\0" in value:
        raise UsageError(f"{name}: the text holds a NUL character; take it out")
    if len(value) > MAX_TEXT:
        raise UsageError(f"{name}: {len(value):,} characters are more than {MAX_TEXT:,}; shorten it")


def as_dict(values: Any) -> dict[str, Any]:
    """The fields that differ from their defaults, as plain JSON values."""
    pairs = ((each, getattr(values, each.name)) for each in dataclasses.fields(values))
    return {
        each.name: list(value) if isinstance(value, tuple) else value
        for each, value in pairs
        if value != each.default
    }


def check_keys(keys: Mapping[str, Any], known: list[str]) -> None:
    """Raise UsageError for a key that is no field, with the nearest one."""
    for key in keys:
        if key not in known:
            raise UsageError(f"no setting is called {key!r}; {registry.nearest(str(key), known)}")
