"""Fields of a request: each is declared once, with its option, type, range and help, and checked by that."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from sdcli import registry
from sdcli.errors import UsageError, in_python_words
from sdcli.home import expand_home
from sdcli.request import names_elsewhere
from sdcli.request.inline_image import InlineImage, inline_image, is_pixels

MAX_TEXT = 20_000  # characters of a text field; a PNG text chunk holds that with room to spare

_TYPE_NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


@dataclass(frozen=True)
class Option:
    """How a field is typed, explained and checked.

    `flags` are its option names on the command line; a field without flags is set by a command itself. `low` and `high`
    are inclusive. `plugin` is the registry kind of a field that names a plugin. `from_model` marks a field whose
    default the model brings. A `many` field holds a tuple of values, and its option may be given several times. A text
    `may_be_empty` if no text is a value of its own. `off` is the flag that makes a bool false. A `picture` is the name
    of an image file; in Python it may be an image or an array, which is kept as an InlineImage. A `path` names a file
    or folder, as a picture does; a ~ that it begins with is expanded. One that changes no bit of a
    picture is not `recorded`: its metadata and the identity of a job leave it out.
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
    may_be_empty: bool = False
    picture: bool = False
    path: bool = False
    off: str = ""
    recorded: bool = True


def option(default: Any, *flags: str, type: type, help: str, **details: Any) -> Any:
    """Declare a field of a request: its default value, its flags, and the details that `Option` lists."""
    return field(default=default, metadata={"option": Option(flags, type, help, **details)})


def option_of(declared: dataclasses.Field[Any]) -> Option:
    """The Option that a field was declared with."""
    found: Option = declared.metadata["option"]
    return found


@functools.cache
def declared_in(values: type) -> Mapping[str, dataclasses.Field[Any]]:
    """The fields of a dataclass by their names."""
    return {each.name: each for each in dataclasses.fields(values)}


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
    """Check and normalise every field of a frozen dataclass in place; raises UsageError that names the field.

    A default is as it should be, which saves most of the time.
    """
    for declared in declared_in(type(values)).values():  # type: ignore[arg-type]
        value = getattr(values, declared.name)
        if value is not declared.default:
            object.__setattr__(values, declared.name, checked(declared, value))


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
    if asked.picture and (isinstance(value, InlineImage) or is_pixels(value)):
        return value if isinstance(value, InlineImage) else inline_image(name, value)
    value = _of_type(asked.type, name, _plain(value))
    if isinstance(value, str):
        value = expand_home(value) if asked.path or asked.picture else value
        _check_text(name, value)
        if not asked.may_be_empty:
            check_not_empty(name, value)
    if asked.low is not None and asked.high is not None and not asked.low <= value <= asked.high:
        raise UsageError(f"{name}: {value} is outside {asked.low}...{asked.high}")
    if asked.choices and value not in asked.choices:
        raise UsageError(f"{name}: {value!r} is unknown; {registry.nearest(value, asked.choices)}")
    return value


def _plain(value: Any) -> Any:
    """A number of NumPy or torch, or a path, as the plain Python value that it stands for."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    is_scalar = hasattr(value, "item") and getattr(value, "ndim", None) == 0
    return value.item() if is_scalar else value


def check_not_empty(name: str, value: str) -> None:
    """Raise UsageError for an empty text: it is most often a variable of a script that was not set."""
    if not value.strip():
        raise UsageError(f"{name}: is empty; give a value, or leave it out for the default")


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
    own, defaults = vars(values), _defaults_of(type(values))  # type: ignore[arg-type]
    return {name: _to_json(own[name]) for name, default in defaults if own[name] != default}


@functools.cache
def _defaults_of(values: type) -> tuple[tuple[str, Any], ...]:
    """(name, default) of each field of a dataclass."""
    return tuple((name, each.default) for name, each in declared_in(values).items())


def as_record(values: Any) -> dict[str, Any]:
    """`as_dict` with the `recorded` fields only."""
    declared = declared_in(type(values))  # type: ignore[arg-type]
    return {name: value for name, value in as_dict(values).items() if option_of(declared[name]).recorded}


def _to_json(value: Any) -> Any:
    """A field's value as JSON; of an inline image its name, which is - without one: its pixels are not kept."""
    if isinstance(value, InlineImage):
        return value.name
    return list(value) if isinstance(value, tuple) else value


def python_names(values: type) -> dict[str, str]:
    """Each option of a dataclass's fields -> the field's name."""
    declared = dataclasses.fields(values)
    off = {option_of(each).off: f"{each.name}=False" for each in declared if option_of(each).off}
    return {flag: each.name for each in declared for flag in option_of(each).flags} | off


def documentation(values: type) -> str:
    """The fields of a dataclass, each with its type, its range, its default and its help, for its docstring."""
    own = own_fields(values)
    in_order = sorted(dataclasses.fields(values), key=lambda each: each.name not in own)
    return "\n".join(_documented(each) for each in in_order)


def _documented(declared: dataclasses.Field[Any]) -> str:
    option = option_of(declared)
    kind = "path, Pillow image or NumPy array" if option.picture else option.type.__name__
    kind = "list of " * option.many + kind
    bounds = f", {option.low:g} ... {option.high:g}" if None not in (option.low, option.high) else ""
    default = "the model's" if option.from_model else repr(declared.default)
    text = textwrap.wrap(in_python_words(option.help), 100)
    return "\n".join(
        [f"{declared.name} ({kind}{bounds}; default: {default})", *(f"    {line}" for line in text)]
    )


class Checked:
    """A base of dataclasses whose fields are declared by `option`: a name that is no field is a UsageError."""

    def __new__(cls, *_: Any, **values: Any) -> Self:
        """Check the names of the fields; the dataclass's own __init__ takes the values."""
        known = declared_in(cls)  # type: ignore[arg-type]
        if not values.keys() <= known.keys():
            check_keys(values, list(known))
        return super().__new__(cls)


def check_keys(keys: Mapping[str, Any], known: list[str]) -> None:
    """Raise UsageError for a key that is no field, with the nearest one."""
    for key in keys:
        if key not in known:
            word = names_elsewhere.FIELDS.get(str(key), str(key))
            raise UsageError(f"no setting is called {key!r}; {registry.nearest(word, known)}")
