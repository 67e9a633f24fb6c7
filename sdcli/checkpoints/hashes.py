"""Hashes: the sha256 of a model's weights; that of a large file is computed once and remembered."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
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
    size, changed = file_version(path)
    return (_without_header if size > SMALL_FILE else _without_header.__wrapped__)(path, size, changed)


@lru_cache
def _without_header(path: Path, size: int, changed: int) -> str:
    with open(path, "rb") as file:
        file.seek(LENGTH_BYTES + int.from_bytes(file.read(LENGTH_BYTES), "little"))
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of_file(path: Path) -> str:
    size, changed = file_version(path)
    folder = settings.cache_folder()
    if size <= SMALL_FILE:
        return _computed.__wrapped__(path, size, changed)
    if folder is None:
        return _computed(path, size, changed)
    memory = folder / "digests.json"
    key = f"{path.resolve()} {size} {changed}"
    hashes = _remembered(memory)
    if key not in hashes:
        hashes[key] = _computed(path, size, changed)
        _remember(memory, hashes)
    return hashes[key]


def file_version(path: Path) -> tuple[int, int]:
    """(size in bytes, when it was last changed in ns): a file of the same path and version has the same hash."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@lru_cache
def _computed(path: Path, size: int, changed: int) -> str:
    with open(path, "rb") as file:
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
