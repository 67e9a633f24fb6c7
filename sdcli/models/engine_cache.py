"""Engine cache: folders with converted or compiled networks, each whole or absent, and made again if damaged."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from sdcli import settings
from sdcli.checkpoints.hashes import digest
from sdcli.errors import UsageError, WriteError

CONTENTS = "contents.json"
"""The file of such a folder that lists the sha256 of the others."""


def engine_folder(name: str) -> Path:
    """The folder for what the engine `name` keeps; raises UsageError for a user without a cache folder."""
    cache = settings.cache_folder()
    if cache is None:
        raise UsageError(
            f"--engine {name} keeps networks in a cache folder, and there is none; set SDCLI_CACHE"
        )
    return cache / "engines" / name


def is_whole(folder: Path) -> bool:
    """True if the folder holds all files that were written into it, with the same bytes."""
    try:
        contents = json.loads((folder / CONTENTS).read_text(encoding="utf-8"))
        return all(digest([folder / name]) == sha256 for name, sha256 in contents.items())
    except (OSError, ValueError, AttributeError):
        return False


def kept(folder: Path, write: Callable[[Path], None]) -> Path:
    """The folder with what `write` puts into one: written now if it is missing or damaged.

    Processes may do so at the same time: the first one wins. Raises WriteError if it cannot be written.
    """
    if is_whole(folder):
        return folder
    temporary = folder.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        temporary.mkdir(parents=True)
        write(temporary)
        sums = {path.name: digest([path]) for path in sorted(temporary.iterdir())}
        (temporary / CONTENTS).write_text(json.dumps(sums), encoding="utf-8")
        _put(temporary, folder)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise WriteError(
            f"{folder.parent}: cannot keep a network: {reason}; set SDCLI_CACHE to a folder with room"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _put(temporary: Path, folder: Path) -> None:
    """Give the folder its name; a damaged one of that name is moved away first."""
    with contextlib.suppress(OSError):
        os.replace(temporary, folder)
        return
    if is_whole(folder):
        return
    damaged = folder.with_name(f".{uuid.uuid4().hex}.old")
    os.replace(folder, damaged)
    shutil.rmtree(damaged, ignore_errors=True)
    os.replace(temporary, folder)
