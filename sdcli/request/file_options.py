"""File options: a file with how it is used, typed as `FILE:weight=0.8:start=0.2`."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sdcli.errors import UsageError
from sdcli.home import expand_home
from sdcli.registry import nearest

SETTING = re.compile(r":(?=[a-z_][a-z_0-9]*=)")
"""The colon before `name=`: any other is part of a path, such as C:\\models, or of a value."""


@dataclass(frozen=True)
class FileOptions:
    """A file, and its settings as texts, by name. `flag` and `text` are the option as it was typed, for errors."""

    flag: str
    text: str
    path: str
    settings: Mapping[str, str]

    def number(self, name: str, default: float, low: float = -math.inf, high: float = math.inf) -> float:
        """A setting that is a number in low … high; raises UsageError for another."""
        text = self.settings.get(name)
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise UsageError(f"{self.flag} {self.text}: {name}={text!r} is not a number")
        if not low <= value <= high:
            raise UsageError(f"{self.flag} {self.text}: {name}={text} is outside {low:g}...{high:g}")
        return value

    def choice(self, name: str, default: str, choices: Collection[str]) -> str:
        """A setting that is one of these words; raises UsageError for another."""
        word = self.settings.get(name, default)
        if word not in choices:
            raise UsageError(
                f"{self.flag} {self.text}: {name}={word!r} is unknown; {nearest(word, list(choices))}"
            )
        return word

    def file(self, name: str) -> str:
        """A setting that names a file, with a leading ~ expanded; empty if it is not given."""
        return expand_home(self.settings.get(name, ""))


def parse_file_options(flag: str, text: str, known: Collection[str]) -> FileOptions:
    """`FILE:name=value:name=value`, whose names are among `known`.

    Raises UsageError, which names the option `flag`, for an unknown name, one that comes twice and one without value.
    """
    path, *items = SETTING.split(text)
    if not path.strip():
        raise UsageError(f"{flag} {text!r}: names no file; write the file first")
    settings: dict[str, str] = {}
    for item in items:
        name, _, value = item.partition("=")
        if name not in known:
            raise UsageError(f"{flag} {text}: no setting is called {name!r}; {nearest(name, list(known))}")
        if name in settings:
            raise UsageError(f"{flag} {text}: {name} is given twice; give it once")
        if not value.strip():
            raise UsageError(f"{flag} {text}: {name} has no value; write {name}=…")
        settings[name] = value
    return FileOptions(flag, text, expand_home(path), settings)
