"""Lookup: a model in the model folders by the name or the hash that another tool gives it."""

from __future__ import annotations

import re
from pathlib import Path

from sdcli import settings
from sdcli.checkpoints import hashes


def find_model(name: str, sha256: str = "") -> str | None:
    """What -m takes for the model of this name, or whose sha256 begins so; None if it is in no model folder.

    A hash of ten digits or more decides: a model of that name but of another hash is not taken. The hash of a large
    file is computed once and remembered.
    """
    found = [path for folder in settings.model_folders() for path in _models(folder)]
    named = [path for path in found if _plain(path) == name.casefold()]
    if not re.fullmatch(r"[0-9a-f]{10,64}", sha256.lower()):
        return str(named[0]) if named else ("tiny" if name == "tiny" else None)
    files = [path for path in [*named, *found] if path.is_file()]
    by_hash = next((path for path in files if hashes.digest([path]).startswith(sha256.lower())), None)
    if by_hash is not None:
        return str(by_hash)
    folders = [path for path in named if path.is_dir()]  # a single file's hash says nothing of a folder
    return str(folders[0]) if folders else ("tiny" if name == "tiny" else None)


def _models(folder: Path) -> list[Path]:
    """The single files and diffusers folders in a model folder."""
    paths = sorted(folder.glob("*")) if folder.is_dir() else []
    return [path for path in paths if path.suffix == ".safetensors" or (path / "unet").is_dir()]


def _plain(path: Path) -> str:
    return (path.stem if path.suffix == ".safetensors" else path.name).casefold()
