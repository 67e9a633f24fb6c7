"""Settings of a command: what a user chose once fills in what was not typed, as if it had been."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from sdcli.commands import IN_FORCE
from sdcli.commands._output import Output
from sdcli.errors import SdError, UsageError
from sdcli.request.fields import checked, option_of
from sdcli.request.request import Request
from sdcli.settings_file import OUTPUT_KEYS, REQUEST_KEYS, Setting, read_settings

TRUTH = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}
DECLARED = {
    **{each.name: each for each in dataclasses.fields(Request) if each.name in REQUEST_KEYS},
    **{each.name: each for each in dataclasses.fields(Output) if each.name in OUTPUT_KEYS},
}
"""Setting -> the field whose option it stands for, and which checks its value."""


def fill_in(typed: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The fields of a Request that were typed, and the settings of those among `names` that were not.

    A setting gives way to what is typed and means the same: --sigmas to steps and schedule, a sampler's name with a
    schedule in it to the schedule. Raises UsageError for a value that the field refuses.
    """
    settings = read_settings()
    wanted = (name for name in REQUEST_KEYS if name in names and name in settings and name not in typed)
    left = means_already(typed)
    return {**typed, **{name: _used(settings[name]) for name in wanted if name not in left}}


def means_already(typed: Mapping[str, Any]) -> set[str]:
    """The settings that an option which was typed under another name decides."""
    left = {"steps", "schedule"} if "sigmas" in typed else set()
    if "sampler" in typed:
        from sdcli.request.aliases import parse_sampler

        left |= {"schedule"} if parse_sampler(typed["sampler"])[1] else set()
    return left


def fill_in_output(typed: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the output by name, None where they were not typed, and the settings in place of that.

    A name that tells a format wins over a setting of the format, and one in a setting is given the format that is
    typed. A sweep takes of a name in a setting only the folders. A setting of the quality is for
    .jpg and .webp. Raises UsageError for a value that cannot be.
    """
    from sdcli.request.encode import SUFFIXES

    settings = {
        key: each for key, each in read_settings().items() if key in OUTPUT_KEYS and typed[key] is None
    }
    values = {**typed, **{key: _used(setting) for key, setting in settings.items()}}
    if "out" in settings and typed["sweep"]:  # a name may hold no field that tells its pictures apart
        values["out"] = folder_before(values["out"], lambda part: "{" in part or bool(_suffix(part)))
    told = _suffix(values["out"])
    if told and values["format"] and settings.keys() & {"out", "format"}:
        if _format_wins(settings):
            values["out"] = values["out"][: -len(told)] + f".{values['format']}"
        else:
            values["format"] = None
    written = values["format"] or SUFFIXES.get(_suffix(values["out"]), "png")
    if "quality" in settings and written == "png":
        values["quality"] = None
    return values


def folder_before(out: str, is_name: Callable[[str], bool]) -> str | None:
    """The folders of a path before the first part that is a name of a picture; None if there are none."""
    parts = Path(out).parts
    first = next((i for i, part in enumerate(parts) if is_name(part)), len(parts))
    return str(Path(*parts[:first])) + os.sep if first else None


def _format_wins(settings: Mapping[str, Setting]) -> bool:
    """True if the format has a higher rank than the name: typed, or a variable's where the name is the file's."""
    if "out" not in settings:
        return False
    return "format" not in settings or settings["format"].is_variable > settings["out"].is_variable


def _suffix(out: str | None) -> str:
    """The ending of a file name, such as `.png`; empty for a folder, standard output, and no name."""
    from sdcli.request.encode import SUFFIXES

    ending = os.path.splitext(out or "")[1].lower()
    return ending if ending in SUFFIXES and not os.path.isdir(out or "") else ""


def _used(setting: Setting) -> Any:
    """The checked value of a setting, which is remembered as in force; raises UsageError."""
    value = value_of(setting)
    context = click.get_current_context(silent=True)
    if context is not None:
        context.meta.setdefault(IN_FORCE, []).append(dataclasses.replace(setting, value=value))
    return value


def value_of(setting: Setting) -> Any:
    """The value of a setting as its field holds it; raises UsageError that begins with where it was written."""
    declared = DECLARED[setting.key]
    try:
        value = _from_text(setting) if setting.is_variable else setting.value
        value = checked(declared, value)
        if setting.key in REQUEST_KEYS:
            Request(**{setting.key: value})
        return value
    except SdError as error:
        raise UsageError(f"{_shown(setting)}: {error.args[0]}") from None


def _from_text(setting: Setting) -> Any:
    """The text of a variable as the type that its field has."""
    kind, text = option_of(DECLARED[setting.key]).type, setting.value.strip()
    if kind is bool:
        if text.lower() not in TRUTH:
            raise UsageError("is neither true nor false")
        return TRUTH[text.lower()]
    try:
        return kind(text)
    except ValueError:
        raise UsageError(f"is not {'a whole number' if kind is int else 'a number'}") from None


def _shown(setting: Setting) -> str:
    return f"{setting.source}={setting.value}" if setting.is_variable else setting.source


def with_source(error: SdError, in_force: Iterable[Setting]) -> SdError:
    """The error; if it is about the value of a setting, with where that was written before its text."""
    text = str(error.args[0]) if error.args else ""
    for setting in in_force:
        subjects = [*option_of(DECLARED[setting.key]).flags, str(setting.value)]
        is_subject = any(re.match(rf"{re.escape(subject)}(?![\w-])", text) for subject in subjects)
        if is_subject and not text.startswith(_shown(setting)):
            error.args = (f"{_shown(setting)}: {text}", *error.args[1:])
            return error
    return error
