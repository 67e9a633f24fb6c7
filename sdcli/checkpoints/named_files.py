"""Named files: the networks in a user's folders, found by their names without the ending."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
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
        for entry in entries(folder):
            stem, suffix = os.path.splitext(entry.name)
            if suffix.lower() in suffixes and entry.is_file():
                names.setdefault(stem, []).append(Path(entry.path))
    return dict(sorted(names.items()))


def entries(
    folder: Path, is_whole: Callable[[Path], bool] = lambda folder: False
) -> Iterator[os.DirEntry[str]]:
    """What is in a folder and below it, in the order of the alphabet; links to folders are followed.

    Hidden names, folders that cannot be read, and what lies in a folder for which `is_whole` is true are left out.
    """
    yield from _below(os.fspath(folder), is_whole, set())


def _below(
    folder: str, is_whole: Callable[[Path], bool], seen: set[tuple[int, int]]
) -> Iterator[os.DirEntry[str]]:
    try:
        status = os.stat(folder)
        with os.scandir(folder) as listing:
            found = sorted(listing, key=lambda entry: entry.name)
    except OSError:
        return
    if (status.st_dev, status.st_ino) in seen:  # a link to a folder above
        return
    seen = {*seen, (status.st_dev, status.st_ino)}
    below = []
    for entry in found:
        if entry.name.startswith("."):  # as a file is while it is being written
            continue
        yield entry
        if _is_folder(entry) and not is_whole(Path(entry.path)):
            below.append(entry.path)
    for path in below:
        yield from _below(path, is_whole, seen)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
