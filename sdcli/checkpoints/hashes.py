"""Hashes: the sha256 of a model's weights; that of a large file is computed once and remembered."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from sdcli import settings
from sdcli.checkpoints.header import LENGTH_BYTES

SMALL_FILE = 10_000_000
"""Bytes up to which a file is hashed anew each time: two may be written within one tick of its clock."""


def digest(paths: list[Path]) -> str:
    """The sha256 of one file in hex, or for several files the sha256 of their sha256s in order."""
    hashes = [_of_file(path) for path in paths]
    if len(hashes) == 1:
        return hashes[0]
    return hashlib.sha256(b"".join(map(bytes.fromhex, hashes))).hexdigest()


def without_header(path: Path) -> str:
    """The sha256 of a safetensors file's tensors alone, which new metadata do not change; Civitai's AutoV3."""
    return _of_file(path, skips_header=True)


def known(paths: Iterable[Path], skips_header: bool = False) -> dict[Path, str]:
    """The sha256 of each file whose hash is remembered; with `skips_header`, of the tensors alone."""
    folder = settings.cache_folder()
    hashes = _remembered(folder / "digests.json") if folder else {}
    found = {}
    for path in paths if hashes else ():
        with contextlib.suppress(OSError):
            digest = hashes.get(_key(path, skips_header))
            if isinstance(digest, str):
                found[path] = digest
    return found


OLD_START, OLD_LENGTH = 0x100000, 0x10000
"""What part of a file A1111 hashed before November 2022, for its hashes of eight digits."""


def old_hash(path: Path) -> str:
    """A1111's old hash of a file, eight digits: of 64 KB in it, so that two models may have the same one."""
    try:
        with open(path, "rb") as file:
            file.seek(OLD_START)
            return hashlib.sha256(file.read(OLD_LENGTH)).hexdigest()[:8]
    except OSError:
        return ""


def file_version(path: Path) -> tuple[int, int]:
    """(size in bytes, when it was last changed in ns): a file of the same path and version has the same hash."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _of_file(path: Path, skips_header: bool = False) -> str:
    size, changed = file_version(path)
    folder = settings.cache_folder()
    if size <= SMALL_FILE:
        return _compute(path, skips_header)
    if folder is None:
        return _computed_once(path, size, changed, skips_header)
    memory = folder / "digests.json"
    key = _key(path, skips_header)
    hashes = _remembered(memory)
    if key not in hashes:
        hashes[key] = _computed_once(path, size, changed, skips_header)
        _remember(memory, hashes)
    return hashes[key]


def _key(path: Path, skips_header: bool) -> str:
    """What tells a file and its content from all others: its path, size, time of the last change and number."""
    status = path.stat()
    what = "tensors " if skips_header else ""
    return f"{what}{path.resolve()} {status.st_size} {status.st_mtime_ns} {status.st_ino}"


@lru_cache
def _computed_once(path: Path, size: int, changed: int, skips_header: bool) -> str:
    return _compute(path, skips_header)


def _compute(path: Path, skips_header: bool) -> str:
    with open(path, "rb") as file:
        if skips_header:
            file.seek(LENGTH_BYTES + int.from_bytes(file.read(LENGTH_BYTES), "little"))
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remembered(memory: Path) -> dict[str, str]:
    try:
        hashes = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return hashes if isinstance(hashes, dict) else {}


def _remember(memory: Path, hashes: dict[str, str]) -> None:
    """Replace the file in one step; a cache folder that cannot be written costs time and nothing else."""
    with contextlib.suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        temporary = memory.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(hashes), encoding="utf-8")
        temporary.replace(memory)
