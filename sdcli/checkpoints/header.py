"""Header: what a safetensors file holds, read from its first bytes; imports no torch and reads no weights."""

from __future__ import annotations

import json
import math
import os
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdcli.errors import ModelError

LARGEST = 100_000_000  # bytes of header; the format's own limit
MOST = 500_000  # commas and brackets in a header, which bound what reading it costs; models have some 30,000
LONGEST = 1_000  # letters of a tensor's name
WIDTHS = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
WIDTHS |= {"F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1, "BOOL": 1}


@dataclass(frozen=True)
class Entry:
    """One tensor of a file: its dtype as the format names it, its shape, where its bytes lie, and its name there."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int
    path: Path
    name: str


@dataclass(frozen=True)
class Header:
    """A safetensors file: its path, its tensors in file order, and its metadata. Or several files, under one path."""

    path: Path
    tensors: Mapping[str, Entry]
    metadata: Mapping[str, str]

    @property
    def paths(self) -> list[Path]:
        """The files that its tensors are in; one without tensors is in none."""
        return list(dict.fromkeys(entry.path for entry in self.tensors.values())) or [self.path]

    def values(self, name: str) -> list[float]:
        """The numbers of one small tensor of a float type."""
        entry = self.tensors[name]
        with open(entry.path, "rb") as file:
            file.seek(entry.start)
            data = file.read(entry.end - entry.start)
        if entry.dtype == "F8_E4M3":
            return [_E4M3[byte] for byte in data]
        if entry.dtype in _UPPER:
            wide, width = _UPPER[entry.dtype], WIDTHS[entry.dtype]
            whole = (bytes(width) + data[i : i + width] for i in range(0, len(data), width))
            return [each for (each,) in struct.iter_unpack(wide, b"".join(whole))]
        return [each for (each,) in struct.iter_unpack(_FORMATS[entry.dtype], data)]


_FORMATS = {"F64": "<d", "F32": "<f", "F16": "<e"}
_UPPER = {"BF16": "<f", "F8_E5M2": "<e"}
"""Types that are the upper half of a wider one."""
_E4M3 = [
    math.nan if byte & 0x7F == 0x7F else 256 * struct.unpack("<e", struct.pack("<H", half))[0]
    for byte in range(256)
    for half in [(byte & 0x80) << 8 | (byte & 0x7F) << 7]  # whose exponent counts from 8 lower
]
FLOATS = (*_FORMATS, *_UPPER, "F8_E4M3")


def read(path: Path) -> Header:
    """The header of a safetensors file, checked: every tensor inside the file, none over another, no hole.

    Raises ModelError, with a message of its own for each thing that people save under this name by mistake.
    """
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise ModelError(f"{path}: a pipe or a device, not a safetensors file; save it as a file first")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            first = file.read(64)
            _refuse_what_it_is_not(path, first, size)
            length = struct.unpack("<Q", first[:8])[0]
            if length > LARGEST:
                raise ModelError(
                    f"{path}: no safetensors file: its header would be {length:,} bytes; fetch it again"
                )
            if length > size - 8:
                raise ModelError(
                    f"{path}: only {size:,} bytes of at least {length + 8:,}: fetch it again, whole"
                )
            text = first[8 : 8 + length] + file.read(max(0, length - 56))
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; is the model whole?") from None
    except IsADirectoryError:
        raise ModelError(f"{path}: is a folder, not a safetensors file") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {(error.strerror or 'unknown reason').lower()}") from None
    return _parsed(path, text, size - 8 - length, 8 + length)


RUNS_CODE = "which can run code, and is never read; get the safetensors file"
PAGE = "a web page, not the model; the download link needs a login or is wrong"
KINDS = {
    b"version https://git-lfs": "a git-lfs pointer, not the model; run `git lfs pull` or download the file itself",
    b"<!doctype": PAGE,
    b"<html": PAGE,
    b"<?xml": PAGE,
    b"pk\x03\x04": f"a zip file, as torch writes its pickles (.ckpt, .pt), {RUNS_CODE}",
    **{bytes([0x80, version]): f"a pickle (.ckpt, .pt, .bin), {RUNS_CODE}" for version in range(2, 6)},
    b"gguf": "a GGUF file; sd reads safetensors only",
    b"\x89hdf": "an HDF5 file (Keras, TensorFlow); sd reads safetensors only",
    b"\x1f\x8b": "compressed with gzip; unpack it first",
    b"7z\xbc\xaf": "a 7z archive; unpack it first",
    b"rar!": "a RAR archive; unpack it first",
    b"\x89png": "a picture, not a model",
    b"\xff\xd8\xff": "a picture, not a model",
}
"""What a file that is no model begins with, in lower case, and what to say of it."""


def _refuse_what_it_is_not(path: Path, first: bytes, size: int) -> None:
    if first[4:9] == b"\0\0\0\0{":  # a header's length, which may look like anything, and a header
        return
    if path.name.endswith(".json"):
        raise ModelError(
            f"{path}: a JSON file, not the model; name the folder it is in, or the weights themselves"
        )
    for start, what in KINDS.items():
        if first.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n").lower().startswith(start):
            raise ModelError(f"{path}: {what}")
    if size < 10:
        raise ModelError(f"{path}: {'empty' if size == 0 else f'only {size} bytes'}; fetch it again")
    if first[:8].isascii() and first[:8].decode().isprintable():
        said = first[:40].decode(errors="replace").strip()
        raise ModelError(f"{path}: a text ({said!r}), not the model; fetch it again")


def _parsed(path: Path, text: bytes, room: int, begin: int) -> Header:
    if sum(map(text.count, (b",", b"[", b"{"))) > MOST:
        raise ModelError(f"{path}: its header describes far more than a model has; it is not read")
    try:
        told: Any = json.loads(text.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: no safetensors file: its header is not JSON ({_line(error)})") from None
    if not isinstance(told, dict):
        raise ModelError(f"{path}: no safetensors file: its header is no JSON object")
    metadata = told.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ModelError(f"{path}: its metadata are not texts; the file is damaged")
    tensors = {name: _entry(path, name, value, begin) for name, value in told.items()}
    place = begin
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != place:
            what = "overlaps the one before it" if entry.start < place else "leaves a hole before it"
            raise ModelError(f"{path}: the tensor {name[:80]!r} {what}; the file is damaged, fetch it again")
        place = entry.end
    if place > begin + room:
        raise ModelError(
            f"{path}: {begin + room:,} bytes of {place:,}: the download is incomplete, fetch it again"
        )
    if place < begin + room:
        raise ModelError(
            f"{path}: {begin + room - place:,} bytes too long; the file is damaged, fetch it again"
        )
    return Header(path, tensors, metadata)


def _entry(path: Path, name: str, value: Any, begin: int) -> Entry:
    bad = ModelError(f"{path}: the tensor {name[:80]!r} is not described as it must be; the file is damaged")
    if not isinstance(value, dict) or not {"dtype", "shape", "data_offsets"} <= value.keys():
        raise bad
    if len(name) > LONGEST:
        raise ModelError(
            f"{path}: a tensor's name has {len(name):,} letters ({name[:40]!r}…); no model's has"
        )
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if (
        not isinstance(dtype, str)
        or not all(isinstance(each, list) for each in (shape, offsets))
        or len(offsets) != 2
    ):
        raise bad
    if not all(type(n) is int and 0 <= n < 2**63 for n in (*shape, *offsets)):
        raise bad
    if dtype not in WIDTHS:
        raise ModelError(
            f"{path}: the tensor {name[:80]!r} is stored as {dtype[:20]!r}, which is not read here"
        )
    size = WIDTHS[dtype]
    for n in shape:
        size *= n
    if offsets[1] - offsets[0] != size:
        raise ModelError(
            f"{path}: the tensor {name[:80]!r} has {offsets[1] - offsets[0]:,} bytes, not {size:,}"
        )
    return Entry(dtype, tuple(shape), begin + offsets[0], begin + offsets[1], path, name)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key twice")
    return found


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:80]
