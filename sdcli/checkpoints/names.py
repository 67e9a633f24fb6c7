"""Names: which of a user's files a name stands for: exactly, in another case, or by a part that only one has."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sdcli import notes
from sdcli.checkpoints.folders import NamedFile
from sdcli.checkpoints.named_files import SUFFIX
from sdcli.errors import UsageError

SHOWN = 6
"""How many of several candidates an error lists."""


def same_name(wanted: str, files: Sequence[NamedFile]) -> list[NamedFile]:
    """The files of this name, with or without sub-folders and ending; those in the same case if there are any."""
    plain = _plain(wanted)
    for fold in (str, str.casefold):
        found = [file for file in files if _ends_as(fold(file.name), fold(plain))]
        if found:
            return found
    return []


def part_of_name(wanted: str, files: Sequence[NamedFile]) -> list[NamedFile]:
    """The files whose names begin with `wanted`, else those that contain it; case and punctuation do not count."""
    loose = _loose(_plain(wanted))
    if not loose.strip("/"):
        return []
    begin = [file for file in files if loose in (_loose(file.name), _loose(file.stem))]
    begin = begin or [
        f for f in files if _loose(f.name).startswith(loose) or _loose(f.stem).startswith(loose)
    ]
    return begin or [file for file in files if loose in _loose(file.name)]


def find(shown: str, wanted: str, files: Sequence[NamedFile], fuzzy: bool = True) -> NamedFile | None:
    """The one file that a name stands for; None if there is none. `shown` is the option, for what is told.

    A file that is found by a part of its name is told of. Raises UsageError if there are several.
    """
    found = same_name(wanted, files)
    if not found and fuzzy:
        found = part_of_name(wanted, files)
        if len(found) == 1:
            notes.tell(f"{shown}: taken for {found[0].name} ({found[0].path})")
    if len(found) > 1:
        raise several(shown, found)
    return found[0] if found else None


def several(shown: str, found: Sequence[NamedFile]) -> UsageError:
    """The error for a name that stands for several files, which lists them."""
    names = [file.name for file in found]
    clear = len(set(names)) == len(names)
    texts = names if clear else [str(file.path) for file in found]
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    listed = ", ".join(texts[:SHOWN]) + more
    return UsageError(f"{shown}: may be {listed}; write {'more of the name' if clear else 'the path of one'}")


def _plain(wanted: str) -> str:
    """The name with / between folders, without ./ and the ending."""
    plain = wanted.replace("\\", "/").removeprefix("./")
    return plain[: -len(SUFFIX)] if plain.lower().endswith(SUFFIX) else plain


def _ends_as(name: str, wanted: str) -> bool:
    return name == wanted or name.endswith(f"/{wanted}")


def _loose(text: str) -> str:
    return re.sub(r"[^\w/]|_", "", text.casefold())
