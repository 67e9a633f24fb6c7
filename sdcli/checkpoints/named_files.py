"""Named files: the networks in a user's folders, found by their names without the ending."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

SUFFIX = ".safetensors"
PICKLE_SUFFIXES = (".pt", ".bin", ".ckpt", ".pth")


def numbered(paths: Iterable[str]) -> dict[str, Path]:
    """Each file once, by its name without the ending; files of one name in several folders are numbered."""
    found: dict[str, Path] = {}
    for path in map(Path, dict.fromkeys(paths)):
        stem = path.stem if path.suffix.lower() == SUFFIX else path.name
        same = sum(each.name == path.name for each in found.values())
        found[f"{stem} ({same + 1})" if same else stem] = path
    return found


def files_in(folders: Iterable[Path], suffixes: Collection[str] = (SUFFIX,)) -> dict[str, list[Path]]:
    """The files in some folders and those below them by name, in the order of the alphabet; none is opened."""
    names: dict[str, list[Path]] = {}
    for folder in folders:
        for parent, below, files in os.walk(folder):
            below[:] = sorted(each for each in below if not each.startswith("."))
            for file in sorted(files):
                stem, suffix = os.path.splitext(file)
                if suffix.lower() in suffixes and not file.startswith("."):
                    names.setdefault(stem, []).append(Path(parent, file))
    return dict(sorted(names.items()))
