"""Settings: what a user chose once, and the folders of this user. Read when they are needed, never written."""

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
    expanded = os.path.expanduser(path)
    if path.split("/")[0] == "~" and expanded == path:
        raise UsageError(f"{path}: the home folder is not known here; set HOME, or write the whole path")
    return expanded


def model_folders() -> list[Path]:
    """The folders in which models are looked for by name.

    They are those in SDCLI_MODELS, separated as in PATH; without it, `models` in the user's data folder, which is
    ~/.local/share/sdcli on Linux. A user without a home folder has none.
    """
    folders = os.environ.get("SDCLI_MODELS")
    if folders is not None:
        return [Path(os.path.expanduser(folder)) for folder in folders.split(os.pathsep) if folder]
    data = _of_user("data")
    return [data / "models"] if data else []


def styles_file() -> Path | None:
    """The file of styles that --style names without --styles-file: SDCLI_STYLES, else `styles.csv` in the data folder.

    The data folder is ~/.local/share/sdcli on Linux. None for a user without a home folder.
    """
    return _in_data_folder("SDCLI_STYLES", "styles.csv")


def wildcards_folder() -> Path | None:
    """The folder of wildcards without --wildcards: SDCLI_WILDCARDS, else `wildcards` in the data folder.

    The data folder is ~/.local/share/sdcli on Linux. None for a user without a home folder.
    """
    return _in_data_folder("SDCLI_WILDCARDS", "wildcards")


NETWORK_FOLDERS = {
    "loras": ("loras", "Lora", "LyCORIS"),
    "hypernets": ("hypernetworks",),
    "controls": ("controlnet", "ControlNet", "t2i_adapter"),
    "upscalers": ("upscale_models", "ESRGAN", "RealESRGAN", "upscalers"),
    "embeddings": ("embeddings",),
    "vaes": ("vae", "VAE"),
    "ip_adapters": ("ipadapter", "ip_adapters"),
    "image_encoders": ("clip_vision",),
}
"""Kind of file -> the folders that ComfyUI, A1111 and we keep it in."""


def network_folders(kind: str) -> list[Path]:
    """The folders in which files of a kind are looked for by name; those that are there.

    They are those in SDCLI_LORAS (SDCLI_HYPERNETS, …), separated as in PATH. Without it: `loras` in the data folder,
    and the folders that A1111 and ComfyUI give them in, or beside, each folder in SDCLI_MODELS.
    Raises UsageError if the variable names what is no folder.
    """
    variable = f"SDCLI_{kind.upper()}"
    if named := os.environ.get(variable):
        folders = [Path(os.path.expanduser(folder)) for folder in named.split(os.pathsep) if folder]
        for folder in folders:
            if not folder.is_dir():
                raise UsageError(
                    f"{variable}: {folder} is no folder; name the one with your {kind}, or unset it"
                )
        return folders
    data = _of_user("data")
    parents = [*([data] if data else []), *(each for root in model_folders() for each in _tool_folders(root))]
    found = [parent / name for parent in parents for name in NETWORK_FOLDERS[kind]]
    return [folder for folder in dict.fromkeys(found) if folder.is_dir()]


def _tool_folders(root: Path) -> list[Path]:
    """Where A1111 and ComfyUI have their folders, if `root` is their own folder, their `models`, or one in that."""
    above = (
        [root.parent.parent] if root.parent.name == "models" else []
    )  # A1111's embeddings are beside its models
    return [root, root / "models", root.parent, *above]


def data_folder() -> Path | None:
    """The folder for what this user collects: ~/.local/share/sdcli on Linux. None for a user without a home folder."""
    return _of_user("data")


def image_encoder() -> Path | None:
    """The image encoder of IP-Adapters that name none: the file, or folder, in SDCLI_IMAGE_ENCODER; None without it."""
    path = os.environ.get("SDCLI_IMAGE_ENCODER")
    return Path(os.path.expanduser(path)) if path else None


def cache_folder() -> Path | None:
    """The folder for what can be computed again: SDCLI_CACHE, else ~/.cache/sdcli on Linux.

    A user without a home folder has none.
    """
    folder = os.environ.get("SDCLI_CACHE")
    if folder:
        return Path(os.path.expanduser(folder))
    return _of_user("cache")


def _in_data_folder(variable: str, name: str) -> Path | None:
    """The path in an environment variable, or else what is called `name` in the user's data folder."""
    if path := os.environ.get(variable):
        return Path(os.path.expanduser(path))
    data = _of_user("data")
    return data / name if data else None


def _of_user(kind: Literal["data", "cache"]) -> Path | None:
    """A folder of this user; None for a user without a home folder, as in a container that runs under any user id."""
    import platformdirs

    find = {"data": platformdirs.user_data_path, "cache": platformdirs.user_cache_path}[kind]
    try:
        return find(_APP, appauthor=False)
    except (RuntimeError, KeyError):
        return None
