"""Folders: where this user keeps checkpoints, VAEs, LoRAs and the other kinds of files, each file with its name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sdcli import registry, settings
from sdcli.checkpoints.named_files import SUFFIX, entries
from sdcli.errors import UsageError

CHECKPOINTS = "checkpoints"
CHECKPOINT_FOLDERS = (CHECKPOINTS, "Stable-diffusion", "diffusers")
"""The folders in which ComfyUI and A1111 keep checkpoints."""

TITLES = {
    CHECKPOINTS: "checkpoint",
    "vaes": "VAE",
    "loras": "LoRA",
    "embeddings": "embedding",
    "hypernets": "hypernetwork",
    "controls": "control network",
    "ip_adapters": "IP-Adapter",
    "image_encoders": "image encoder",
    "upscalers": "upscaler",
}
"""Kind of file, as settings name it -> what one is called."""

_OTHER_WORDS = {"models": CHECKPOINTS, "hypernetworks": "hypernets", "controlnets": "controls"}
_NOT_CHECKPOINTS = {
    "clip",
    "configs",
    "text_encoders",
    "unet",
    "diffusion_models",
    "vae_approx",
    "VAE-approx",
}
"""Folders of other tools, in a folder of models, with files of no kind known here."""


@dataclass(frozen=True)
class NamedFile:
    """A file or diffusers folder of this user; `name` is its path in its folder, with / and without the ending."""

    name: str
    path: Path
    kind: str = ""  # as in TITLES

    @property
    def stem(self) -> str:
        """The name without sub-folders."""
        return self.name.rpartition("/")[2]

    @property
    def sub_folder(self) -> str:
        """The folders in front of the stem; empty if there are none."""
        return self.name.rpartition("/")[0]


def kind_of_word(word: str) -> str:
    """The kind that a word stands for, in one of its spellings (lora, LoRAs, ip-adapters); raises UsageError."""
    plain = word.lower().replace("-", "_")
    for kind in TITLES:
        if plain in (kind, kind.removesuffix("s")):
            return kind
    for other, kind in _OTHER_WORDS.items():
        if plain in (other, other.removesuffix("s")):
            return kind
    raise UsageError(f"no kind of file is called {word!r}; {registry.nearest(word, [*TITLES])}")


def named_files(kind: str, folders: Iterable[Path] | None = None) -> list[NamedFile]:
    """The files of a kind in some folders, else in the user's for it: each once, in their order; none is opened.

    Among checkpoints and control networks are diffusers folders.
    """
    found: dict[object, NamedFile] = {}
    for folder, is_deep in _folders(kind) if folders is None else ((folder, True) for folder in folders):
        for entry in entries(folder, _WHOLE.get(kind, _never) if is_deep else _always):
            path = Path(entry.path)
            if _is_listed(kind, entry, path):
                name = path.relative_to(folder).as_posix()
                name = name[: -len(SUFFIX)] if name.lower().endswith(SUFFIX) else name
                found.setdefault(_identity(entry), NamedFile(name, path, kind))
    return list(found.values())


def places(kind: str) -> list[Path]:
    """The folders in which files of a kind are looked for."""
    return list(dict.fromkeys(folder for folder, _ in _folders(kind)))


def _folders(kind: str) -> Iterator[tuple[Path, bool]]:
    """(folder, True if what lies below is looked through too) for a kind."""
    if kind != CHECKPOINTS:
        yield from ((folder, True) for folder in settings.network_folders(kind))
        return
    for root in settings.model_folders():
        within = [parent / name for parent in (root, root / "models") for name in CHECKPOINT_FOLDERS]
        own = [folder for folder in within if folder.is_dir()]
        yield root, not own  # of a tool's own folder, only what it is known to have is looked through
        yield from ((folder, True) for folder in own)


def _is_listed(kind: str, entry: os.DirEntry[str], path: Path) -> bool:
    if entry.name.lower().endswith(SUFFIX):
        return not entry.is_dir()
    if kind == CHECKPOINTS:
        return os.path.isdir(path / "unet")
    return kind == "controls" and entry.is_dir() and _has_config(path)


def _is_no_folder_of_checkpoints(folder: Path) -> bool:
    """True for a diffusers folder, and for a folder of another kind of files."""
    others = {name for names in settings.NETWORK_FOLDERS.values() for name in names} | _NOT_CHECKPOINTS
    return (
        folder.name in others or os.path.isdir(folder / "unet") or os.path.exists(folder / "model_index.json")
    )


def _has_config(folder: Path) -> bool:
    return os.path.isfile(folder / "config.json")


def _never(folder: Path) -> bool:
    return False


def _always(folder: Path) -> bool:
    return True


_WHOLE = {CHECKPOINTS: _is_no_folder_of_checkpoints, "controls": _has_config}
"""Kind -> which folders are not looked into."""


def _identity(entry: os.DirEntry[str]) -> object:
    """What tells whether two names are one file; a link that leads nowhere is itself."""
    try:
        status = entry.stat()
    except OSError:
        return entry.path
    return (status.st_dev, status.st_ino) if status.st_ino else entry.path
