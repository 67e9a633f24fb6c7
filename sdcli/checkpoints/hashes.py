"""Digest: the sha256 of a model's weights; that of a large file is computed once and remembered."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path

LARGE = 100_000_000  # bytes from which a digest is worth remembering


def digest(paths: list[Path]) -> str:
    """The sha256 of one file, or of several files' sha256s in their order."""
    each = [_of_file(path) for path in paths]
    return each[0] if len(each) == 1 else hashlib.sha256(b"".join(map(bytes.fromhex, each))).hexdigest()


def _of_file(path: Path) -> str:
    told = path.stat()
    key = f"{path.resolve()} {told.st_size} {told.st_mtime_ns}"
    memory = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sdcli" / "digests.json"
    if told.st_size < LARGE:
        return _computed(path)
    known = _known(memory)
    if key not in known:
        known[key] = _computed(path)
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time, no more
            memory.parent.mkdir(parents=True, exist_ok=True)
            fresh = memory.with_suffix(f".{os.getpid()}")
            fresh.write_text(json.dumps(known), encoding="utf-8")
            fresh.replace(memory)
    return known[key]


def _known(memory: Path) -> dict[str, str]:
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def _computed(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
