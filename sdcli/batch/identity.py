"""Identity: the hash of all that decides the pixels of a job, by which a batch knows what it has finished."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdcli import machine
from sdcli.batch.named_files import file_digest, named_files
from sdcli.request.fields import option_of
from sdcli.request.request import Request

ALGORITHM = 1
"""Counted up when this program makes other pixels of the same request, so that batches draw them anew."""


_PATHS = tuple(
    each.name for each in dataclasses.fields(Request) if option_of(each).path or option_of(each).picture
)


def request_key(request: Request) -> str:
    """The sha256 of what was asked for: the same on every machine, wherever its files lie there."""
    asked = request.as_record()
    for name in _PATHS:
        if isinstance(asked.get(name), str):
            asked[name] = _file_name(asked[name])
        elif name in asked:
            asked[name] = [_file_name(text) for text in asked[name]]
    return _hash(asked)


def job_key(asked: str, path: Path) -> str:
    """The sha256 of a request's key and of where it goes below the folder of the batch: the same on every machine."""
    return _hash({"request": asked, "path": path.as_posix()})


def identity(key: str, files: Mapping[str, str], machine: Mapping[str, Any]) -> str:
    """The sha256 of a job's key, the sha256 of each file that it reads, and the machine that draws it."""
    return _hash({"key": key, "files": dict(files), "machine": dict(machine), "algorithm": ALGORITHM})


def machine_of(request: Request) -> dict[str, Any]:
    """What of this machine decides the last bits of a request's picture."""
    on_gpu = request.device.startswith("cuda") or (request.device == "auto" and machine.has_gpu())
    found: dict[str, Any] = {"device": "cuda" if on_gpu else "cpu", "dtype": request.dtype}
    if not on_gpu:
        found["threads"] = request.threads or machine.helpful_threads()
        found["cpu"] = (
            f"{machine.cpu_maker()} {os.environ.get('ATEN_CPU_CAPABILITY') or machine.instructions()}"
        )
    found["torch"] = machine.installed_version("torch") or "unknown"
    engine = request.engine.partition(":")[0]  # has the name of its package; `compile` is a part of torch
    if engine != "torch" and (version := machine.installed_version(engine)):
        found[engine] = version
    return found


class FileHashes:
    """The sha256 of files, each computed once in the life of this value."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}

    def of(self, request: Request) -> dict[str, str]:
        """Number -> the sha256 of each picture and adapter that a request names, in order; not where they lie."""
        return {f"file {i}": self._one(path) for i, path in enumerate(named_files(request))}

    def _one(self, path: str) -> str:
        if path not in self._found:
            self._found[path] = file_digest(Path(path))
        return self._found[path]


def _file_name(text: str) -> str:
    """The text without the folders of the path that it begins with."""
    return re.sub(r"^.*[/\\]", "", text)


def _hash(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(_in_order(value).encode()).hexdigest()


_in_order = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
