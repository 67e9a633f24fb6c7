"""Lookup: a file in the user's folders by its name, a part of that, or the hash that another tool gives it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from sdcli import settings
from sdcli.checkpoints import hashes, header, hub, names
from sdcli.checkpoints.folders import CHECKPOINTS, TITLES, NamedFile, named_files, places
from sdcli.errors import ModelError, UsageError
from sdcli.home import expand_home

BY_HASH = "sha256:"
"""What a hash begins with where a model may be named."""
LEAST_DIGITS = 8
RECORDED_HASH = "sshs_model_hash"
"""Where kohya's trainer records the AutoV3 of a LoRA, which A1111 takes for its hash."""
_SHORT_DIGITS = 10  # of A1111's short hash, which is Civitai's AutoV2


def model_path(name: str) -> Path | None:
    """The checkpoint that a name or `sha256:HEX` stands for in the model folders; None if there is none.

    A path in a model folder, exact but for its ending, goes first, in the order of the folders. Only then are parts of
    a name tried, and not for what may be a repo of the hub. Raises UsageError for a name that several have, and
    ModelError for a hash that none has.
    """
    if name.startswith(BY_HASH):
        return _by_hash(name)
    for folder in settings.model_folders():
        for path in (folder / name, folder / f"{name}.safetensors"):
            if os.path.exists(path) and Path(os.path.normpath(path)).is_relative_to(os.path.normpath(folder)):
                return path
    if not may_be_name(name):
        return None
    found = names.find(f"-m {name}", name, named_files(CHECKPOINTS), fuzzy=not hub.is_repo(name))
    return found.path if found else None


def file_path(kind: str, shown: str, name: str, fuzzy: bool = True) -> Path | None:
    """The file of a kind that a name or `sha256:HEX` stands for in the user's folders; None if there is none.

    `shown` is the option, for errors. Raises UsageError for a name that several files have, and ModelError for a hash
    that none has.
    """
    if name.startswith(BY_HASH):
        return _adapter_by_hash(kind, shown, name)
    found = names.find(shown, name, named_files(kind), fuzzy) if may_be_name(name) else None
    return found.path if found else None


def any_file(shown: str, name: str, fuzzy: bool = True) -> NamedFile | None:
    """The user's file of any kind that a name or hash stands for, a model before the others; None if there is none.

    Raises UsageError for a name that several files have.
    """
    if name.startswith(BY_HASH):
        digits = _digits(shown, name)
        found = ((kind, with_any_hash(kind, digits)) for kind in reversed(TITLES))  # small files first
        return next((NamedFile(path.stem, path, kind) for kind, path in found if path is not None), None)
    if name == "tiny" or name.startswith("test:") or not may_be_name(name):
        return None
    files = [file for kind in TITLES for file in named_files(kind)]
    models = [file for file in names.same_name(name, files) if file.kind == CHECKPOINTS]
    if models:
        return models[0]
    return names.find(shown, name, files, fuzzy and not hub.is_repo(name))


def may_be_name(text: str) -> bool:
    """True for what can be the name of a file in a folder, and is not written like a path from here or the root."""
    return (
        not os.path.isabs(text) and not text.startswith((".", "~")) and "\0" not in text and ".." not in text
    )


def find_model(name: str, sha256: str = "") -> str | None:
    """What -m takes for the model of this name, or whose sha256 begins so; None if it is in no model folder.

    A hash of ten digits or more decides: a model of that name but of another hash is not taken. One of eight is
    A1111's old hash of a part of the file, which finds a model whose name is another. The hash of a large file is
    computed once and remembered.
    """
    files = named_files(CHECKPOINTS)
    named = _in_order(name, files)
    tiny = "tiny" if name == "tiny" else None
    digits = sha256.lower()
    if not re.fullmatch(rf"[0-9a-f]{{{_SHORT_DIGITS},64}}", digits):
        if named:
            return str(named[0].path)
        old = _with_old_hash(digits, files) if re.fullmatch(r"[0-9a-f]{8}", digits) else None
        return str(old) if old else tiny
    by_hash = _with_sha256(digits, [*named, *files])
    if by_hash is not None:
        return str(by_hash)
    folders = [file for file in named if file.path.is_dir()]  # a single file's hash says nothing of a folder
    return str(folders[0].path) if folders else tiny


def with_any_hash(kind: str, digits: str) -> Path | None:
    """The file of a kind whose sha256, or that of its tensors alone (AutoV3), begins with these digits; None if none.

    Hashes that are known go first, then the AutoV3 in the metadata of LoRAs, at last those that must be computed.
    Fewer than eight digits, and what is no hash, find nothing.
    """
    digits = digits.lower()
    if not _is_hash(digits):
        return None
    paths = [file.path for file in named_files(kind) if file.path.is_file()]
    return next(
        (path for each in _hashes_of(paths) for path, digest in each if digest.startswith(digits)), None
    )


def is_here(model: str | os.PathLike[str]) -> bool:
    """True for a model that is found by its whole name, or that may be on the hub; no file is opened."""
    model = os.fspath(model)
    if model == "tiny" or model.startswith("test:") or hub.is_repo(model):
        return True
    return os.path.exists(expand_home(model)) or bool(names.same_name(model, named_files(CHECKPOINTS)))


def moved(model: str | os.PathLike[str], facts: Mapping[str, object]) -> str | None:
    """Where the model of a picture is now, by the sha256 that the picture's facts record; None if it is nowhere."""
    recorded = facts.get("model")
    sha256 = str(recorded.get("sha256", "")) if isinstance(recorded, Mapping) else ""
    return find_model(Path(model).stem, sha256) if sha256 else None


def _in_order(name: str, files: list[NamedFile]) -> list[NamedFile]:
    """The files of this name, in the order of the folders."""
    return names.same_name(name, files) if name else []


def _by_hash(text: str) -> Path:
    """The model that `sha256:HEX` names; raises UsageError for what is no hash, ModelError if no model has it."""
    digits = _digits(f"-m {text}", text)
    files = named_files(CHECKPOINTS)
    found = (_with_old_hash(digits, files) if len(digits) == LEAST_DIGITS else None) or _with_sha256(
        digits, files
    )
    if found is None:
        where = ", ".join(map(str, places(CHECKPOINTS))) or "any model folder (set SDCLI_MODELS to one)"
        raise ModelError(
            f"-m {text}: no model in {where} has this hash; `sd models --hash` lists what there is"
        )
    return found


def _adapter_by_hash(kind: str, shown: str, text: str) -> Path:
    """The file of a kind that `sha256:HEX` names; raises UsageError for what is no hash, ModelError if none has it."""
    path = with_any_hash(kind, _digits(shown, text))
    if path is None:
        where = ", ".join(map(str, places(kind))) or f"any folder (set SDCLI_{kind.upper()} to one)"
        raise ModelError(
            f"{shown}: no {TITLES[kind]} in {where} has this hash; `sd models {kind} --hash` lists what there is"
        )
    return path


def _digits(shown: str, text: str) -> str:
    """The digits of `sha256:HEX`; raises UsageError for what is no hash."""
    digits = text.removeprefix(BY_HASH).lower()
    if not _is_hash(digits):
        raise UsageError(f"{shown}: is no hash; write {LEAST_DIGITS} to 64 of the digits 0-9 and a-f")
    return digits


def _is_hash(digits: str) -> bool:
    return re.fullmatch(rf"[0-9a-f]{{{LEAST_DIGITS},64}}", digits) is not None


def _with_sha256(digits: str, files: Iterable[NamedFile]) -> Path | None:
    """The first file whose sha256 begins so: of those whose hash is known, else of the others, hashed in turn."""
    paths = list(dict.fromkeys(file.path for file in files if file.path.is_file()))
    known = hashes.known(paths)
    for path, digest in known.items():
        if digest.startswith(digits):
            return path
    return next((path for path in paths if path not in known and _digest(path).startswith(digits)), None)


def _hashes_of(paths: Sequence[Path]) -> Iterator[Iterable[tuple[Path, str]]]:
    """(file, one of its hashes), the cheap ones first."""
    yield hashes.known(paths).items()
    yield hashes.known(paths, skips_header=True).items()
    yield ((path, _recorded_hash(path)) for path in paths)
    for path in paths:
        with contextlib.suppress(OSError):  # gone, or not to be read; it is not the one
            yield ((path, hashes.without_header(path)), (path, hashes.digest([path])))


def _recorded_hash(path: Path) -> str:
    """The AutoV3 that kohya's trainer wrote into a LoRA; empty if there is none."""
    try:
        return header.read(path).metadata.get(RECORDED_HASH, "")
    except ModelError:
        return ""


def _digest(path: Path) -> str:
    try:
        return hashes.digest([path])
    except OSError:  # gone, or not to be read; it is not the one
        return ""


def _with_old_hash(digits: str, files: Iterable[NamedFile]) -> Path | None:
    return next(
        (file.path for file in files if file.path.is_file() and hashes.old_hash(file.path) == digits), None
    )
