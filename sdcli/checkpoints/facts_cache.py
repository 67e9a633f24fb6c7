"""Facts cache: what was told of files by their headers, kept until one of them changes, so that none is stale."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

import sdcli
from sdcli import settings

FORMAT = f"1 {sdcli.__version__}"
"""Of the file: another version of the program may tell other facts."""
SETTLED = 2_000_000_000
"""Nanoseconds after a change from which a later change is sure to have another time; some disks count in seconds."""

Version = list[list[Any]]


class FactsCache:
    """The facts of files by their paths. `get` gives those of the same version alone; `save` writes what is new."""

    def __init__(self) -> None:
        folder = settings.cache_folder()
        self.path = folder / "files.json" if folder else None
        self.known = _read(self.path) if self.path else {}
        self.is_new = False

    def get(self, path: Path, version: Version) -> dict[str, Any] | None:
        """The facts of this version of a file; None if they are not known."""
        found = self.known.get(str(path))
        if not isinstance(found, dict) or found.get("version") != version:
            return None
        facts = found.get("facts")
        return facts if isinstance(facts, dict) else None

    def put(self, path: Path, version: Version, facts: dict[str, Any]) -> None:
        """Remember the facts of a file, unless it changed so lately that it could change again unseen."""
        changed = max((max(each[2], each[3]) for each in version), default=0)
        if changed + SETTLED < time.time_ns():
            self.known[str(path)] = {"version": version, "facts": facts}
            self.is_new = True

    def save(self) -> None:
        """Write the facts if there are new ones, in one step; a folder that cannot be written costs time alone."""
        if not self.is_new or self.path is None:
            return
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_suffix(f".{os.getpid()}")
            kept = {path: facts for path, facts in self.known.items() if os.path.exists(path)}
            temporary.write_text(json.dumps({"format": FORMAT, "files": kept}), encoding="utf-8")
            temporary.replace(self.path)


def version_of(paths: list[str]) -> Version:
    """What changes whenever one of these files does: name, size, times of the last changes, and number of each.

    Those that are not there are left out. The time of a change of status tells of a file that was written over and
    given its old time.
    """
    found = []
    for path in paths:
        with contextlib.suppress(OSError):
            status = os.stat(path)
            found.append(
                [
                    os.path.basename(path),
                    status.st_size,
                    status.st_mtime_ns,
                    status.st_ctime_ns,
                    status.st_ino,
                ]
            )
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        return {}
    files = stored.get("files")
    return files if isinstance(files, dict) else {}
