from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from sdcli import registry
from sdcli import settings as folders
from sdcli.commands._settings import DECLARED, value_of
from sdcli.commands._settings_example import example_file
from sdcli.commands._streams import print_note, print_result
from sdcli.errors import UsageError
from sdcli.request.fields import option_of
from sdcli.settings_file import (
    FILE_VARIABLE,
    FOLDER_KEYS,
    FOLDER_LISTS,
    FOLDERS,
    folder_setting,
    read_settings,
    settings_path,
    variable,
)

BUILT_IN = "built-in"
OTHER_VARIABLES = (FILE_VARIABLE, "SD_SERVER")
"""Variables of `sd` that begin like those of settings and are none."""


@dataclass(frozen=True)
class InForce:
    """A setting as it is in force: its key, as `steps` or `folders.loras`, its value as JSON, and whence it is."""

    key: str
    value: Any
    source: str


@click.command()
@click.option(
    "--path", "wants_path", is_flag=True, help="Print the path of the settings file, which need not exist."
)
@click.option("--example", is_flag=True, help="Print a commented settings file to begin with.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per setting.")
def settings(wants_path: bool, example: bool, as_json: bool) -> None:
    """Show the settings that are in force and whence each is: built-in, a line of the settings file, or a variable.

    What is typed on the command line wins, then a variable such as SD_STEPS, then the file, then what is built in.
    SD_SETTINGS names another file; if it is empty, none is read.
    """
    if sum((wants_path, example, as_json)) > 1:
        raise UsageError("--path, --example and --json exclude each other; give one")
    if example:
        print_result(example_file().rstrip())
        return
    if wants_path:
        path = str(_path())
        print_result(json.dumps({"path": path}) if as_json else path)
        return
    for each in (*_options(), *_folders()):
        print_result(json.dumps(vars(each)) if as_json else _line(each))
    for note in _unknown_variables():
        print_note(note)


def _path() -> Path:
    path = settings_path()
    if path is not None:
        return path
    if os.environ.get(FILE_VARIABLE) is not None:
        raise UsageError(f"{FILE_VARIABLE} is empty, so no settings file is read; unset it, or name a file")
    raise UsageError(f"there is no home folder to keep settings in; name a file with {FILE_VARIABLE}")


def _options() -> Iterator[InForce]:
    """The settings that stand for options."""
    found = read_settings()
    for key, declared in DECLARED.items():
        setting = found.get(key)
        yield (
            InForce(key, value_of(setting), setting.source)
            if setting
            else InForce(key, declared.default, BUILT_IN)
        )


def _folders() -> Iterator[InForce]:
    """The folders, those that are built in too, as far as they are there."""
    for key in FOLDER_KEYS:
        setting = folder_setting(key)
        paths = setting.value if setting else _built_in(key)
        texts = [str(path) for path in paths]
        value = texts if key in FOLDER_LISTS else next(iter(texts), None)
        yield InForce(f"{FOLDERS}.{key}", value, setting.source if setting else BUILT_IN)


def _built_in(key: str) -> list[Path]:
    """The paths of a key that nobody set."""
    if key == "models":
        return folders.model_folders()
    if key in FOLDER_LISTS:
        return folders.network_folders(key)
    only = {
        "wildcards": folders.wildcards_folder,
        "styles": folders.styles_file,
        "cache": folders.cache_folder,
        "image_encoder": folders.image_encoder,
    }[key]()
    return [only] if only else []


def _line(each: InForce) -> str:
    """`steps = 30  (SD_STEPS)`."""
    text = "none" if each.value in (None, []) else json.dumps(each.value, ensure_ascii=False)
    if each.value is None and each.key in DECLARED and option_of(DECLARED[each.key]).from_model:
        text = "the model's"
    return f"{each.key} = {text}  ({each.source})"


def _unknown_variables() -> Iterator[str]:
    """A note for each variable that looks like one of ours and is none."""
    known = [*map(variable, DECLARED), *OTHER_VARIABLES]
    for name in sorted(os.environ):
        if name.startswith("SD_") and name not in known and not name.startswith("SD_WEBUI"):
            yield f"{name} is not read: there is no such setting; {_nearest(name, known)}"


def _nearest(name: str, known: list[str]) -> str:
    hint = registry.nearest(
        name.removeprefix("SD_").lower(), [each.removeprefix("SD_").lower() for each in known]
    )
    return hint if "'" not in hint else f"did you mean {variable(hint.split(chr(39))[1])!r}?"
