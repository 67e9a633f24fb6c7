"""Settings: the folders of this user, as they are the user named them or by convention."""

from __future__ import annotations

from pathlib import Path

from sdcli.errors import UsageError
from sdcli.home import expand_home as expand_home  # the older place of its name
from sdcli.home import user_folder
from sdcli.settings_file import Setting, folder_setting


def model_folders() -> list[Path]:
    """The folders in which models are looked for by name.

    They are those in SDCLI_MODELS, separated as in PATH, else those of the settings file; without both, `models` in the
    user's data folder, which is ~/.local/share/sdcli on Linux. A user without a home folder has none.
    """
    if named := folder_setting("models"):
        return list(named.value)
    data = user_folder("data")
    return [data / "models"] if data else []


def styles_file() -> Path | None:
    """The file of styles that --style names without --styles-file: SDCLI_STYLES, else `styles.csv` in the data folder.

    The data folder is ~/.local/share/sdcli on Linux. None for a user without a home folder.
    """
    return _in_data_folder("styles", "styles.csv")


def wildcards_folder() -> Path | None:
    """The folder of wildcards without --wildcards: SDCLI_WILDCARDS, else `wildcards` in the data folder.

    The data folder is ~/.local/share/sdcli on Linux. None for a user without a home folder.
    """
    return _in_data_folder("wildcards", "wildcards")


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

    They are those in SDCLI_LORAS (SDCLI_HYPERNETS, …), separated as in PATH, else those of the settings file. Without
    both: `loras` in the data folder, and the folders that A1111 and ComfyUI give them in, or beside, each model folder.
    Raises UsageError if the variable or the file names what is no folder.
    """
    if named := folder_setting(kind):
        _check_folders(named)
        return list(named.value)
    data = data_folder()
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
    return user_folder("data")


def image_encoder() -> Path | None:
    """The image encoder of IP-Adapters that name none: the file, or folder, in SDCLI_IMAGE_ENCODER; None without it."""
    named = folder_setting("image_encoder")
    return named.value[0] if named else None


def cache_folder() -> Path | None:
    """The folder for what can be computed again: SDCLI_CACHE, else ~/.cache/sdcli on Linux.

    A user without a home folder has none.
    """
    named = folder_setting("cache")
    return named.value[0] if named else user_folder("cache")


def _check_folders(named: Setting) -> None:
    """Raise UsageError if a setting names what is no folder."""
    for folder in named.value:
        if not folder.is_dir():
            remedy = "unset it" if named.is_variable else "leave it out"
            raise UsageError(
                f"{named.source}: {folder} is no folder; name the one with your {named.key}, or {remedy}"
            )


def _in_data_folder(key: str, name: str) -> Path | None:
    """The path that a variable or the settings file names, or else what is called `name` in the user's data folder."""
    if named := folder_setting(key):
        path: Path = named.value[0]
        return path
    data = user_folder("data")
    return data / name if data else None
