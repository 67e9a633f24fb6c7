"""Weighted file: a file with its strength, typed as `FILE@0.5`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from sdcli.errors import UsageError
from sdcli.home import expand_home

MAX_STRENGTH = 10.0
_STRENGTH = re.compile(r"(?P<path>.*)@(?P<strength>[^@/\\]*)")


@dataclass(frozen=True)
class WeightedFile:
    """A file and how strongly it acts: 0 is not at all, 1 as it was trained."""

    path: str
    strength: float = 1.0


def parse_weighted_file(flag: str, text: str) -> WeightedFile:
    """`FILE` or `FILE@0.5`; a file whose own name ends so is typed with a strength behind it.

    Raises UsageError, which names the option `flag`, for a missing name and for a strength that is no number.
    """
    found = _STRENGTH.fullmatch(text)
    if found is None:
        return WeightedFile(_path(flag, text, text))
    try:
        strength = float(found["strength"])
    except ValueError:
        strength = math.nan
    if not math.isfinite(strength):
        raise UsageError(f"{flag} {text}: {found['strength']!r} is not a number; write FILE@0.5")
    if abs(strength) > MAX_STRENGTH:
        raise UsageError(
            f"{flag} {text}: {strength:g} is outside {-MAX_STRENGTH:g}...{MAX_STRENGTH:g}; write FILE@0.5"
        )
    return WeightedFile(_path(flag, text, found["path"]), strength)


def _path(flag: str, text: str, path: str) -> str:
    if not path.strip():
        raise UsageError(f"{flag} {text!r}: names no file; write the file first")
    return expand_home(path)
