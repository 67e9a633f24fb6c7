"""Wildcards: a user's folder of lists, a line of which is drawn for `__name__` in a prompt."""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcli.errors import UsageError
from sdcli.request.prompt.literal import hide, show
from sdcli.request.prompt.names import nearest

if TYPE_CHECKING:
    from dynamicprompts.wildcards.values import WildcardValues

Item = tuple[str, float]
"""A value and its weight."""
Read = Callable[[], list[Item]]


class Wildcards:
    """The lists of a folder, by names such as `animals/cat`; each file is read when one of its lists is asked for.

    In a .txt file, each line is a value, but empty lines and those that begin with #. A .yaml, .yml or .json file holds
    lists under keys, which are a part of the name; in these, `3::red` is red with the weight 3.
    """

    def __init__(self, folder: Path | None) -> None:
        """Raises UsageError if the folder is missing, or a .yaml or .json file in it cannot be read."""
        if folder is not None and not folder.is_dir():
            raise UsageError(f"--wildcards {folder}: there is no such folder; check the path")
        self.folder = folder
        self._lists = dict(_lists(folder)) if folder else {}

    def get_values(self, wildcard: str) -> WildcardValues:
        """The values of a wildcard, or of all that a pattern such as `animals/*` fits, sorted, without doubles.

        A name without its folders is found as well. The library that draws calls this. Raises UsageError if there are
        no values.
        """
        from dynamicprompts.wildcards.item import WildcardItem
        from dynamicprompts.wildcards.values import WildcardValues

        wildcard = show(wildcard)
        items = dict.fromkeys(item for read in self._matching(wildcard) for item in read())
        if not items:
            raise UsageError(f"__{wildcard}__: {self._reason(wildcard)}; --no-variants takes it as words")
        return WildcardValues.from_items(
            hide(text, comments=True) if weight == 1 else WildcardItem(hide(text, comments=True), weight)
            for text, weight in sorted(items)
        )

    def _matching(self, wildcard: str) -> list[Read]:
        pattern = wildcard.replace("\\", "/").strip("/")
        for each in (pattern, f"**/{pattern}"):
            if found := [read for name, read in self._lists.items() if fnmatch.fnmatchcase(name, each)]:
                return found
        return []

    def _reason(self, wildcard: str) -> str:
        if self.folder is None:
            return "there is no folder of wildcards; name one with --wildcards"
        if self._matching(wildcard):
            return f"is empty in {self.folder}"
        return f"there is no such wildcard in {self.folder}; {nearest(wildcard, self._lists)}"


def _lists(folder: Path) -> Iterator[tuple[str, Read]]:
    """The name of each list in the folder and in those inside of it, and how it is read."""
    for path in _files(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        kind = path.suffix.lower()
        if kind == ".txt":
            yield name, partial(_lines, path)
        elif kind in (".yaml", ".yml", ".json"):
            content = _content(path)
            parent = name.rpartition("/")[0]
            keyed = content if isinstance(content, dict) else {name.rpartition("/")[2]: content}
            for key, items in _keyed(path, keyed, parent):
                yield key, items.copy


def _files(folder: Path) -> Iterator[Path]:
    """All files in the folder and in those inside of it, sorted; hidden ones are left out."""
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise UsageError(f"{path}: the wildcards cannot be read: {reason}; check the file") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: the wildcards are not UTF-8; save the file as that") from None


def _lines(path: Path) -> list[Item]:
    lines = (line.strip() for line in _text(path).splitlines())
    return [(line, 1.0) for line in lines if line and not line.startswith("#")]


def _content(path: Path) -> Any:
    text = _text(path)
    if path.suffix.lower() == ".json":
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path}: is no JSON: {error}; correct the file") from None

    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: is no YAML: {' '.join(str(error).split())}; correct the file") from None


def _keyed(path: Path, values: dict[Any, Any], prefix: str) -> Iterator[tuple[str, list[Item]]]:
    """The lists under the keys of a file, each called by the keys that lead to it."""
    for key, value in values.items():
        name = f"{prefix}/{key}".strip("/")
        if isinstance(value, dict):
            yield from _keyed(path, value, name)
        elif value is not None:
            entries = value if isinstance(value, list) else [value]
            yield name, [_item(path, name, entry) for entry in entries if entry not in (None, "")]


def _item(path: Path, name: str, entry: Any) -> Item:
    """An entry of a list: `red`, `3::red`, or a table of text (or content) and weight."""
    text, weight = entry, 1.0
    if isinstance(entry, dict):
        text, weight = entry.get("text", entry.get("content")), entry.get("weight", 1)
    elif isinstance(entry, str) and entry[0].isdigit() and "::" in entry:
        number, _, words = entry.rpartition("::")
        try:
            text, weight = words, float(number)
        except ValueError:  # "::" in the text itself
            text = entry
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise UsageError(f"{path}: {name}: {json.dumps(entry, default=str):.60} is no text; put it in quotes")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
        raise UsageError(f"{path}: {name}: the weight {weight!r} is no number from 0; correct it")
    return str(text), float(weight)
