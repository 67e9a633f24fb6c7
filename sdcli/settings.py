"""Settings: what a user chose once, and the folders of this user. Read when they are needed, never written."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

_APP = "sdcli"


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
