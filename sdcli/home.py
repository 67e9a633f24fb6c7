"""Home: the home folder of this user, and the folders that the system keeps in it for a program."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from sdcli.errors import UsageError

_APP = "sdcli"


def expand_home(path: str) -> str:
    """The path with a leading ~ or ~name replaced by that home folder; every path that a user names goes through here.

    A shell does this only for a word that begins with ~, which --out=~/x.png does not. Raises UsageError if the home
    folder is not known.
    """
    try:
        expanded = os.path.expanduser(path)
    except ValueError:  # a NUL character in the name of a user; whoever opens it says so
        return path
    if path.split("/")[0] == "~" and expanded == path:
        raise UsageError(f"{path}: the home folder is not known here; set HOME, or write the whole path")
    return expanded


def user_folder(kind: Literal["data", "cache", "config"]) -> Path | None:
    """A folder of this user; None for a user without a home folder, as in a container that runs under any user id."""
    import platformdirs

    find = {
        "data": platformdirs.user_data_path,
        "cache": platformdirs.user_cache_path,
        "config": platformdirs.user_config_path,
    }[kind]
    try:
        return find(_APP, appauthor=False)
    except (RuntimeError, KeyError):
        return None
