"""Settings: what a user chose once, and the folders of this user. Read when they are needed, never written."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from sdcli.errors import UsageError

_APP = "sdcli"


def expand_home(path: str) -> str:
    """The path with a leading ~ or ~name replaced by that home folder; every path that a user names goes through here.

    A shell does this only for a word that begins with ~, which --out=~/x.png does not. Raises UsageError if the home
    folder is not known.
    """
    expanded = os.path.expanduser(path)
    if path.split("/")[0] == "~" and expanded == path:
        raise UsageError(f"{path}: the home folder is not known here; set HOME, or write the whole path")
    return expanded


def model_folders() -> list[Path]:
    """The folders in which models are looked for by name.

    They are those in SDCLI_MODELS, separated as in PATH; without it, `models` in the user's data folder, which is
    ~/.local/share/sdcli on Linux.
    """
    folders = os.environ.get("SDCLI_MODELS")
    if folders is not None:
        return [Path(folder).expanduser() for folder in folders.split(os.pathsep) if folder]
    return [platformdirs.user_data_path(_APP, appauthor=False) / "models"]


def cache_folder() -> Path:
    """The folder for what can be computed again: ~/.cache/sdcli on Linux."""
    return platformdirs.user_cache_path(_APP, appauthor=False)
