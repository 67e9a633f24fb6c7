"""Mapped: single tensors of safetensors files as views of the mapped file, which take no memory of their own."""

from __future__ import annotations

import functools
import mmap
import os
from pathlib import Path

import torch
from torch import Tensor

from sdcli.checkpoints.component import Component
from sdcli.checkpoints.header import Entry
from sdcli.errors import ModelError
from sdcli.models.tensors import DTYPES, taken

ALIGNED = 64
"""Bytes. torch's own tensors begin at multiples of it; sums over a tensor that does not may be rounded otherwise."""


def map_tensor(component: Component, name: str) -> Tensor:
    """The tensor `name` of a component as its file stores it; raises ModelError if the file cannot be read.

    It is a view of the file's pages, which the system may drop and read again, unless the file packs or scales it.
    The mapping ends with the tensor.
    """
    return taken(component, name, _view(component.entry(name)))


def read_ahead(component: Component, name: str) -> None:
    """Tell the system that this tensor is read next, so that a slow disk works while a layer computes."""
    entry = component.entry(name)
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(_file(entry.path), entry.start, entry.end - entry.start, os.POSIX_FADV_WILLNEED)


def is_aligned(tensor: Tensor) -> bool:
    """True if a tensor begins where torch would put it."""
    return tensor.data_ptr() % ALIGNED == 0


def _view(entry: Entry) -> Tensor:
    dtype = DTYPES[entry.dtype]
    if entry.end == entry.start:
        return torch.empty(entry.shape, dtype=dtype)
    begin = entry.start - entry.start % mmap.ALLOCATIONGRANULARITY
    file = _file(entry.path)
    if os.fstat(file).st_size < entry.end:
        raise ModelError(f"{entry.path}: was cut while it was read; fetch it again")
    try:  # a private mapping, since torch wants one that can be written; nothing writes into it
        data = mmap.mmap(file, entry.end - begin, access=mmap.ACCESS_COPY, offset=begin)
    except (OSError, ValueError) as error:
        raise ModelError(f"{entry.path}: cannot be mapped: {str(error).lower()}") from None
    count = (entry.end - entry.start) // dtype.itemsize
    return torch.frombuffer(data, dtype=dtype, count=count, offset=entry.start - begin).reshape(entry.shape)


class _OpenFile:
    """A file that is open for as long as this value lives."""

    def __init__(self, path: Path) -> None:
        try:
            self.number = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as error:
            reason = (error.strerror or "unknown reason").lower()
            raise ModelError(f"{path}: cannot be read: {reason}") from None

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


@functools.lru_cache(maxsize=16)
def _opened(path: Path, changed: int) -> _OpenFile:
    return _OpenFile(path)


def _file(path: Path) -> int:
    """The descriptor of a file; it is opened anew if another file has taken its place."""
    try:
        return _opened(path, os.stat(path).st_mtime_ns).number
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise ModelError(f"{path}: cannot be read: {reason}") from None
