"""The settings file and the SD_* variables: what a user chose once for the command line. Read when needed, not written.

A variable wins over the file. The file is read with tomllib, which is imported only if there is one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdcli.errors import UsageError
from sdcli.home import expand_home, user_folder

REQUEST_KEYS = ("model", "device", "dtype", "threads", "negative", "like", "rng", "steps", "cfg", "sampler", "schedule",
                "clip_skip")  # fmt: skip
"""Fields of a Request that can be a user's habit; the others are of one picture, one model or one command."""
OUTPUT_KEYS = ("out", "format", "quality", "metadata")
FOLDER_LISTS = ("models", "loras", "hypernets", "controls", "upscalers", "embeddings", "vaes", "ip_adapters",
                "image_encoders")  # fmt: skip
FOLDER_KEYS = (*FOLDER_LISTS, "wildcards", "styles", "image_encoder", "cache")
FOLDERS = "folders"
"""The table of the file that names folders; for each of its keys there is a variable SDCLI_KEY as well."""
FILE_VARIABLE = "SD_SETTINGS"
MAX_BYTES = 1_000_000  # of a settings file


@dataclass(frozen=True)
class Setting:
    """One setting: its value as it was written, and where: `SD_STEPS` or `/home/me/.config/sdcli/settings.toml:3`."""

    key: str
    value: Any
    source: str
    is_variable: bool = False


def settings_path() -> Path | None:
    """The settings file, which need not exist: SD_SETTINGS, else `settings.toml` in the user's config folder.

    The config folder is ~/.config/sdcli on Linux. None if SD_SETTINGS is empty, which switches all settings off, or for
    a user without a home folder.
    """
    named = os.environ.get(FILE_VARIABLE)
    if named is not None:
        return Path(expand_home(named)) if named else None
    folder = user_folder("config")
    return folder / "settings.toml" if folder else None


def variable(key: str) -> str:
    """The environment variable of a setting: `SD_CLIP_SKIP` for `clip_skip`."""
    return f"SD_{key.upper()}"


def read_settings() -> dict[str, Setting]:
    """The settings of the variables and of the file, by key, as they were written: a variable's value is a text.

    Those of the table of folders are not among them. Raises UsageError for a file that cannot be read or has an
    unknown key.
    """
    found = {key: each for key, each in _read_file().items() if not key.startswith(f"{FOLDERS}.")}
    for key in (*REQUEST_KEYS, *OUTPUT_KEYS):
        if text := os.environ.get(
            variable(key)
        ):  # an empty one is as good as none: CI sets those that it lacks so
            found[key] = Setting(key, text, variable(key), is_variable=True)
    return found


def folder_setting(key: str) -> Setting | None:
    """The paths of a key of the table of folders: SDCLI_KEY, else the file's; None if neither names any.

    Its value is a tuple of paths; those of the file are relative to it. Only SDCLI_MODELS may be empty, for none.
    """
    name = f"SDCLI_{key.upper()}"
    named = os.environ.get(name)
    if named or (named is not None and key == "models"):
        texts = named.split(os.pathsep) if key in FOLDER_LISTS else [named]
        paths = tuple(Path(os.path.expanduser(text)) for text in texts if text)
        return Setting(key, paths, name, is_variable=True)
    return _read_file().get(f"{FOLDERS}.{key}")


def _read_file() -> dict[str, Setting]:
    """The settings of the file by key, a folder's as `folders.loras`; none if there is no file."""
    path = settings_path()
    text = _text(path) if path else None
    if path is None or text is None:
        return {}
    table = _parse(text, path)
    folders = table.pop(FOLDERS, {})
    if not isinstance(folders, dict):
        raise UsageError(
            f"{_place(path, text, FOLDERS)}: {FOLDERS} is a table; write [{FOLDERS}] on a line above"
        )
    _check_keys(table, (*REQUEST_KEYS, *OUTPUT_KEYS, FOLDERS), path, text)
    _check_keys(folders, FOLDER_KEYS, path, text, FOLDERS)
    found = {key: Setting(key, value, _place(path, text, key)) for key, value in table.items()}
    for key, value in folders.items():
        place = _place(path, text, key, FOLDERS)
        found[f"{FOLDERS}.{key}"] = Setting(key, _paths(key, value, place, path.absolute().parent), place)
    return found


def _text(path: Path) -> str | None:
    """The text of the file; None if there is none, unless SD_SETTINGS names it."""
    named = f"{FILE_VARIABLE}={path}" if os.environ.get(FILE_VARIABLE) else str(path)
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise UsageError(f"{named}: is larger than {MAX_BYTES:,} bytes; that is no settings file")
        return data.decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        if not os.environ.get(FILE_VARIABLE):
            return None
        raise UsageError(
            f"{named}: there is no such file; check the path, or unset {FILE_VARIABLE}"
        ) from None
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise UsageError(f"{named}: cannot be read: {reason}; {FILE_VARIABLE}= goes without it") from None
    except UnicodeDecodeError:
        raise UsageError(f"{named}: is not UTF-8; save the file as that") from None


def _parse(text: str, path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        reason, _, place = str(error).partition(" (at ")
        named = re.match(r"line (\d+)", place)
        line = f":{named[1] if named else len(text.splitlines())}" if place else ""
        raise UsageError(
            f"{path}{line}: is not TOML: {reason}; `sd settings --example` prints a sample"
        ) from None


def _check_keys(
    table: Mapping[str, Any], known: tuple[str, ...], path: Path, text: str, name: str = ""
) -> None:
    """Raise UsageError for a key that is no setting, with the nearest one, or the table that it belongs in."""
    from sdcli.registry import nearest

    for key in table:
        if key in known:
            continue
        if not name and key in FOLDER_KEYS:
            hint = f"it belongs under [{FOLDERS}]"
        elif name and key in (*REQUEST_KEYS, *OUTPUT_KEYS):
            hint = f"it belongs above [{FOLDERS}]"
        else:
            hint = nearest(key, known)
        raise UsageError(f"{_place(path, text, key, name)}: no setting is called {key!r}; {hint}")


def _paths(key: str, value: Any, place: str, parent: Path) -> tuple[Path, ...]:
    """The paths that a key of the table of folders names; `parent` is what relative ones are relative to."""
    takes = "a list of folders" if key in FOLDER_LISTS else "a path"
    texts = value if isinstance(value, list) and key in FOLDER_LISTS else [value]
    if not all(isinstance(text, str) and text.strip() and "\0" not in text for text in texts):
        raise UsageError(f"{place}: {key} = {value!r} is not {takes} in quotes")
    return tuple(parent / expand_home(text) for text in texts)


def _place(path: Path, text: str, key: str, table: str = "") -> str:
    """`settings.toml:3`, the line that sets a key of a table; the path alone if no line is seen to."""
    name = rf"""["']?{re.escape(key)}["']?\s*"""
    dotted = rf"\s*{table}\s*\.\s*{name}[=.]" if table else rf"\s*\[\s*{name}[\].]"
    current = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line):
            current = header[1]
        is_in_table = current == table and re.match(rf"\s*{name}[=.]", line)
        if is_in_table or re.match(dotted, line):
            return f"{path}:{number}"
    return str(path)
