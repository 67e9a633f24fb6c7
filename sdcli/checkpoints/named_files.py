"""Named files: the networks in a user's folders, found by their names without the ending."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

SUFFIX = ".safetensors"
PICKLE_SUFFIXES = (".pt", ".bin", ".ckpt", ".pth")


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
