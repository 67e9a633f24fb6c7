"""Header: what a safetensors file holds, read from its first bytes; no weights are read.

The format (https://github.com/huggingface/safetensors): 8 bytes with the length of the header, the header as JSON,
then the tensors' bytes.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import stat
import struct
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdcli.errors import ModelError
from sdcli.file_signatures import HEAD_BYTES, PICTURES, kind_of

MAX_HEADER_BYTES = 100_000_000  # the format's own limit
MAX_JSON_VALUES = (
    500_000  # in a header, by its commas and brackets; it bounds memory, and models have some 30,000
)
MAX_NAME_LENGTH = 1_000  # letters
MAX_DIMENSIONS = 64  # of a tensor; torch's own limit
LENGTH_BYTES = 8  # in front of the header

WIDTHS = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
WIDTHS |= {"F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1, "BOOL": 1}
"""dtype, as the format names it -> bytes a value."""


@dataclass(frozen=True)
class Entry:
    """One tensor of a file: its dtype as the format names it, its shape, the range of its bytes, its file and name."""

    dtype: str
    shape: tuple[int, ...]
    start: int  # counted from the beginning of the file
    end: int
    path: Path
    name: str


@dataclass(frozen=True)
class Header:
    """A safetensors file: its path, its tensors in file order, and its metadata; or several files under one path."""

    path: Path
    tensors: Mapping[str, Entry]
    metadata: Mapping[str, str]

    @property
    def paths(self) -> list[Path]:
        """The files that the tensors are in; `path` if there are no tensors."""
        return list(dict.fromkeys(entry.path for entry in self.tensors.values())) or [self.path]

    def values(self, name: str) -> list[float]:
        """The values of one small tensor, whose dtype is one of FLOATS."""
        entry = self.tensors[name]
        with open(entry.path, "rb") as file:
            file.seek(entry.start)
            data = file.read(entry.end - entry.start)
        if entry.dtype == "F8_E4M3":
            return [_E4M3[byte] for byte in data]
        if entry.dtype in _UPPER_HALF_OF:
            width = WIDTHS[entry.dtype]
            data = b"".join(bytes(width) + data[i : i + width] for i in range(0, len(data), width))
        return [value for (value,) in struct.iter_unpack(_FORMATS[entry.dtype], data)]


ReadHeader = Callable[[Path], Header]
"""`read`, or `read` with a memory, which reads each file once."""

_UPPER_HALF_OF = {"BF16": "F32", "F8_E5M2": "F16"}
_FORMATS = {"F64": "<d", "F32": "<f", "F16": "<e"}
_FORMATS |= {half: _FORMATS[wide] for half, wide in _UPPER_HALF_OF.items()}
"""dtype -> struct's format for its values, of a dtype that is the upper half of a wider one for the wider ones."""
_E4M3 = [
    math.nan if byte & 0x7F == 0x7F else 256 * struct.unpack("<e", struct.pack("<H", half))[0]
    for byte in range(256)
    for half in [(byte & 0x80) << 8 | (byte & 0x7F) << 7]  # as float16, whose exponent's bias is 8 higher
]
FLOATS = (*_FORMATS, "F8_E4M3")


_last: ContextVar[dict[Path, Header] | None] = ContextVar("last", default=None)


@contextlib.contextmanager
def read_once() -> Iterator[None]:
    """Inside, `read` remembers the last header, for who asks of one file whether it is this, that or the other."""
    token = _last.set({})
    try:
        yield
    finally:
        _last.reset(token)


def read(path: Path) -> Header:
    """The header of a safetensors file. Its tensors must fill the file: none outside, no two overlapping, no gaps.

    Raises ModelError, with a message of its own for each kind of file that people save as a model by mistake.
    """
    last = _last.get()
    if last is None:
        return _read(path)
    if path not in last:
        found = _read(path)
        last.clear()
        last[path] = found
    return last[path]


def _read(path: Path) -> Header:
    try:
        _check_is_file(path)
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(HEAD_BYTES)
            _check_kind(path, head, size)
            length = _header_length(path, head, size)
            rest = file.read(max(0, LENGTH_BYTES + length - len(head)))
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; is the model whole?") from None
    except IsADirectoryError:
        raise ModelError(f"{path}: is a folder, not a safetensors file") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {(error.strerror or 'unknown reason').lower()}") from None
    end = LENGTH_BYTES + length
    metadata, described = _parse(path, (head + rest)[LENGTH_BYTES:end])
    tensors = {name: _parse_entry(path, name, value, end) for name, value in described.items()}
    _check_layout(path, tensors, end, size)
    return Header(path, tensors, metadata)


# --- what is no safetensors file

CONVERTED = "`sd models convert FILE FILE.safetensors` converts it"
"""What to do with a pickle."""
_RUNS_CODE = f"which can run code, and is not read here; {CONVERTED}"
_WEB_PAGE = "a web page, not the model; the download link needs a login or is wrong"
_UNPACK = "unpack it first"
_NOT_A_MODEL = {
    "git-lfs": "a git-lfs pointer, not the model; run `git lfs pull` or download the file itself",
    "HTML": _WEB_PAGE,
    "XML": _WEB_PAGE,  # as storage services answer
    "zip": f"a zip file, as torch writes its pickles (.ckpt, .pt), {_RUNS_CODE}",
    "pickle": f"a pickle (.ckpt, .pt, .bin), {_RUNS_CODE}",
    "tar": f"a tar archive; {_UNPACK}",
    "GGUF": "a GGUF file; sd reads safetensors only",
    "HDF5": "an HDF5 file (Keras, TensorFlow); sd reads safetensors only",
    "gzip": f"compressed with gzip; {_UNPACK}",
    "7z": f"a 7z archive; {_UNPACK}",
    "RAR": f"a RAR archive; {_UNPACK}",
    "PDF": "a PDF, not a model",
    **dict.fromkeys((*PICTURES, "SVG"), "a picture, not a model"),
}
"""Kind of file -> what to say of it."""


def _check_is_file(path: Path) -> None:
    """Raise ModelError for a pipe or a device, which would be waited for."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise ModelError(f"{path}: a pipe or a device, not a safetensors file; save it as a file first")


def _check_kind(path: Path, head: bytes, size: int) -> None:
    """Raise ModelError that says what the file is, if its first bytes are those of something else."""
    kind = kind_of(head)
    if kind == "safetensors":
        return
    if path.name.endswith(".json"):
        raise ModelError(
            f"{path}: a JSON file, not the model; name the folder it is in, or the weights themselves"
        )
    if kind in _NOT_A_MODEL:
        raise ModelError(f"{path}: {_NOT_A_MODEL[kind]}")
    if size < LENGTH_BYTES + len("{}"):
        raise ModelError(f"{path}: {'empty' if size == 0 else f'only {size} bytes'}; fetch it again")
    if kind == "text" and head[:LENGTH_BYTES].isascii():
        beginning = head[:40].decode(errors="replace").strip()
        raise ModelError(f"{path}: a text ({beginning!r}), not the model; fetch it again")


def _header_length(path: Path, head: bytes, size: int) -> int:
    length: int = struct.unpack("<Q", head[:LENGTH_BYTES])[0]
    if length > MAX_HEADER_BYTES:
        raise ModelError(f"{path}: no safetensors file: its header would be {length:,} bytes; fetch it again")
    if length > size - LENGTH_BYTES:
        raise ModelError(
            f"{path}: only {size:,} bytes of at least {length + LENGTH_BYTES:,}: fetch it again, whole"
        )
    return length


# --- the header's JSON


def too_large(text: bytes) -> bool:
    """True if this JSON could hold more values than a model's; counting is cheap, and parsing it would not be."""
    return sum(map(text.count, (b",", b"[", b"{"))) > MAX_JSON_VALUES


def _parse(path: Path, text: bytes) -> tuple[dict[str, str], dict[str, Any]]:
    """(metadata, name -> description of the tensor)."""
    if too_large(text):
        raise ModelError(f"{path}: its header describes far more than a model has; it is not read")
    try:
        described: Any = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:80]
        raise ModelError(f"{path}: no safetensors file: its header is not JSON ({reason})") from None
    if not isinstance(described, dict):
        raise ModelError(f"{path}: no safetensors file: its header is no JSON object")
    metadata = described.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ModelError(f"{path}: its metadata are not texts; the file is damaged")
    return metadata, described


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object from its keys and values; raises ValueError if a key comes twice."""
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key twice")
    return values


def _parse_entry(path: Path, name: str, description: Any, data_start: int) -> Entry:
    """The entry of a tensor; `data_start` is where the tensors' bytes begin in the file."""
    if len(name) > MAX_NAME_LENGTH:
        raise ModelError(
            f"{path}: a tensor's name has {len(name):,} letters ({name[:40]!r}…); no model's has"
        )
    if not _is_description(description):
        raise ModelError(
            f"{path}: the tensor {name[:80]!r} is not described as it must be; the file is damaged"
        )
    dtype, shape, (start, end) = description["dtype"], description["shape"], description["data_offsets"]
    if dtype not in WIDTHS:
        raise ModelError(
            f"{path}: the tensor {name[:80]!r} is stored as {dtype[:20]!r}, which is not read here"
        )
    size = WIDTHS[dtype] * math.prod(shape)
    if end - start != size:
        raise ModelError(f"{path}: the tensor {name[:80]!r} has {end - start:,} bytes, not {size:,}")
    return Entry(dtype, tuple(shape), data_start + start, data_start + end, path, name)


def _is_description(value: Any) -> bool:
    """True if `value` has the three fields of a tensor, each of its type."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("dtype"), str)
        and _is_sizes(value.get("shape"))
        and len(value["shape"]) <= MAX_DIMENSIONS
        and _is_sizes(value.get("data_offsets"))
        and len(value["data_offsets"]) == 2
    )


def _is_sizes(value: Any) -> bool:
    """True for a list of whole numbers from 0 to 2^63 - 1; a JSON true is not a number."""
    return isinstance(value, list) and all(type(number) is int and 0 <= number < 2**63 for number in value)


def _check_layout(path: Path, tensors: Mapping[str, Entry], data_start: int, size: int) -> None:
    """Raise ModelError unless the tensors lie one after the other from `data_start` to the end of the file."""
    position = data_start
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != position:
            fault = "overlaps the one before it" if entry.start < position else "leaves a hole before it"
            raise ModelError(f"{path}: the tensor {name[:80]!r} {fault}; the file is damaged, fetch it again")
        position = entry.end
    if position > size:
        raise ModelError(
            f"{path}: {size:,} bytes of {position:,}: the download is incomplete, fetch it again"
        )
    if position < size:
        raise ModelError(f"{path}: {size - position:,} bytes too long; the file is damaged, fetch it again")
