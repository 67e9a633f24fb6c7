"""Settings: what a user chose once, from the environment and a small file; read late, written never."""

from __future__ import annotations

import os
from pathlib import Path


def model_folders() -> list[Path]:
    """Where models are looked for by name: SDCLI_MODELS, parted as PATH is; else ~/.local/share/sdcli/models."""
    told = os.environ.get("SDCLI_MODELS")
    if told is not None:
        return [Path(each).expanduser() for each in told.split(os.pathsep) if each]
    home = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return [Path(home).expanduser() / "sdcli" / "models"]
