"""Pickle child: reads one pickled file and writes its tensors as safetensors; it is run as a process of its own.

torch's loader for weights (`weights_only=True`) runs no code of the file: it knows a fixed list of types, and stops at
any other name. The few names of other libraries that published files hold stand for objects that do nothing. This
process may use memory and disk in proportion to the file, and start no program.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdcli.convert.pickled_contents import Contents, KeptParameters, contents
from sdcli.convert.tensors import OutputTensor, safetensors
from sdcli.errors import ModelError
from sdcli.file_signatures import HEAD_BYTES, kind_of
from sdcli.models.tensors import DTYPES, NUMBERS, all_finite

MIB = 2**20
MEMORY_FACTOR, MEMORY_SPARE = 3, 512 * MIB  # of the file's size, beyond what torch takes
OUTPUT_FACTOR, OUTPUT_SPARE = 4, 16 * MIB
OPEN_FILES = 64


def main(source: Path, out: Path, dtype: str) -> None:
    """Convert `source` to `out`, floats to `dtype` unless that is empty; print {"notes": […]} or {"error": …}."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    answer: dict[str, Any]
    try:
        size = source.stat().st_size
        limit_resources(size)
        sys.addaudithook(_only_writes(out))
        answer = {"notes": _convert(source, out, dtype, OUTPUT_FACTOR * size + OUTPUT_SPARE)}
    except Exception as error:
        answer = {"error": _reason(error)}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _convert(source: Path, out: Path, dtype: str, max_bytes: int) -> list[str]:
    found = contents(_load(source))
    weights = PickledWeights(found, getattr(torch, dtype) if dtype else None)
    _check_amount(found, weights, max_bytes)
    tensors = [OutputTensor(key, list(tensor.shape), weights, [key]) for key, tensor in found.tensors.items()]
    with open(out, "wb") as file:
        for piece in safetensors(tensors, None, found.metadata):
            file.write(piece)
    return found.notes


def _check_amount(found: Contents, weights: PickledWeights, max_bytes: int) -> None:
    """Raise ModelError if the tensors are far larger than their file, as views of a few values can be."""
    amount = sum(tensor.numel() * weights.out_dtype(key).itemsize for key, tensor in found.tensors.items())
    if amount > max_bytes:
        raise ModelError(
            f"its tensors would take {amount:,} bytes, far more than the file; it is not converted"
        )


class PickledWeights:
    """The tensors of a pickle as they are written: floats in `dtype`, unless that is None."""

    def __init__(self, found: Contents, dtype: torch.dtype | None) -> None:
        self._tensors, self._dtype = found.tensors, dtype

    def tensor(self, name: str) -> Tensor:
        """One of them, with at least one dimension; raises ModelError if the dtype is too narrow for a value."""
        stored = self._tensors[name].detach()
        values = stored.to(self.out_dtype(name)).reshape(-1)
        if not all_finite(values):
            reason = "the file is damaged, fetch it again"
            if all_finite(stored):
                reason = f"{self._dtype} is too narrow for it, leave out --dtype".removeprefix("torch.")
            raise ModelError(f"{name[:80]!r} has values that are not finite; {reason}")
        return values

    def out_dtype(self, name: str) -> torch.dtype:
        """The dtype that it is written in; integers are kept."""
        stored = self._tensors[name].dtype
        return self._dtype if self._dtype and stored in DTYPES.values() else stored

    def dtype(self, name: str) -> str:
        """The same, by the format's name."""
        return next(key for key, value in NUMBERS.items() if value == self.out_dtype(name))

    def where(self, name: str) -> str:
        """What an error names."""
        return "the pickle"


# --- reading


class StandIn:
    """Stands for an object of another library that a checkpoint holds beside its weights; nothing of it is kept."""

    def __new__(cls, *_: object) -> StandIn:
        """An object that ignores what it is made from."""
        return super().__new__(cls)

    def __setstate__(self, _: object) -> None:
        """Ignore what the object held."""


def _plain_dict(*_: object) -> dict[object, object]:
    return {}


STAND_INS = (
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.dtype",
    "numpy.ndarray",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.nodes.AnyNode",
    "typing.Any",
    "builtins.dict",
    "builtins.list",
    "builtins.tuple",
    "builtins.int",
    "builtins.float",
    "builtins.str",
    "builtins.bool",
)
"""What lies beside the weights in checkpoints of Stable Diffusion: callbacks of Lightning, numbers, settings."""


def _named(name: str, stand_in: Any) -> Any:
    """The stand-in under the name that a file has for it."""
    stand_in.__module__, _, stand_in.__qualname__ = name.rpartition(".")
    return stand_in


def _allowed() -> list[Any]:
    stand_ins = [_named(name, type("StandIn", (StandIn,), {})) for name in STAND_INS]
    return [
        *stand_ins,
        _named("collections.defaultdict", _plain_dict),
        _named("torch.nn.modules.container.ParameterDict", type("Kept", (KeptParameters,), {})),
    ]


def _load(source: Path) -> Any:
    with open(source, "rb") as file:
        kind = kind_of(file.read(HEAD_BYTES))
    is_zip = kind == "zip"
    if kind == "tar":
        raise ModelError(_TAR)
    if is_zip:
        _check_zip(source)
    with torch.serialization.safe_globals(_allowed()):
        return torch.load(str(source), map_location="cpu", weights_only=True, mmap=is_zip)


def _check_zip(source: Path) -> None:
    try:
        with zipfile.ZipFile(source) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        raise ModelError("a damaged zip file; the download may be incomplete, fetch it again") from None
    names = {entry.filename.rpartition("/")[2] for entry in entries}
    if "data.pkl" not in names:
        raise ModelError("a zip file that torch did not write; unpack it, and look what is in it")
    if "constants.pkl" in names:
        raise ModelError("a TorchScript archive, which holds code; it is not converted")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ModelError("a compressed zip file, and torch compresses none; it is not converted")


# --- what this process may do


def limit_resources(size: int) -> None:
    """Limit memory and output in proportion to a file of this size, and allow no process; where the system can."""
    try:
        import resource
    except ImportError:
        return  # Windows
    limits = {
        "RLIMIT_FSIZE": OUTPUT_FACTOR * size + OUTPUT_SPARE,
        "RLIMIT_NOFILE": OPEN_FILES,
        "RLIMIT_NPROC": 0,
        "RLIMIT_CORE": 0,
    }
    with contextlib.suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limits["RLIMIT_AS"] = pages * resource.getpagesize() + MEMORY_FACTOR * size + MEMORY_SPARE
    for name, value in limits.items():
        number = getattr(resource, name, None)
        if number is None:
            continue
        _, hard = resource.getrlimit(number)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(number, (value, value))


_PROGRAMS = (
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "os.system",
    "pty.",
    "subprocess.",
)
_FILES = ("os.chmod", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "shutil.")
_NETWORK = ("socket.", "urllib.", "http.", "ftplib.", "smtplib.")


def _only_writes(out: Path) -> Callable[[str, tuple[Any, ...]], None]:
    """A second guard behind the loader: Python refuses programs, connections, and writing any file but `out`."""
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT

    def refuse(event: str, details: tuple[Any, ...]) -> None:
        writes = event == "open" and bool((details[2] or 0) & writing) and str(details[0]) != str(out)
        if writes or event.startswith((*_PROGRAMS, *_FILES, *_NETWORK)):
            raise PermissionError(f"reading it tried {event}")

    return refuse


# --- errors

_TAR = "a tar archive, as the oldest torch wrote; it cannot be read safely, and is not converted"
_HOLDS = re.compile(r"(?:Unsupported global: GLOBAL |unsupported GLOBAL |Unsupported class )([\w.<>]+)")
_MEMORY = re.compile(r"can't allocate|cannot allocate|alloc", re.IGNORECASE)
_REASONS = {
    r"legacy \.tar format": _TAR,
    r"Only persistent_load of storage": "holds a module with its source code, as old torch wrote them; not converted",
    r"TorchScript": "a TorchScript archive, which holds code; it is not converted",
    r"call reduce|create new object|Can only build": "would call what is not allowed; it is not converted",
    r"Unsupported operand": "has instructions that torch does not write; it is damaged, or no model",
}


def _reason(error: Exception) -> str:
    """Why the file is not converted, in one line."""
    text = str(error.args[0]) if error.args else ""
    held = _HOLDS.search(text)
    if held:
        name = held[1] if "." in held[1] else f"builtins.{held[1]}"
        return f"holds {name}, which could run code; it is not converted"
    if isinstance(error, ModelError):
        return text
    if isinstance(error, MemoryError) or _MEMORY.search(text):
        return "needs far more memory than a file of its size should; it is not converted"
    for pattern, reason in _REASONS.items():
        if re.search(pattern, text):
            return reason
    if isinstance(error, OSError):
        return f"cannot be converted: {(error.strerror or text or 'unknown reason').lower()}"
    lines = list(_lines(text)) or [type(error).__name__]
    return f"cannot be read ({lines[-1][:120]}); it is damaged, fetch it again"


def _lines(text: str) -> Iterator[str]:
    """The lines that say something, without torch's advice to run the file's code."""
    for line in text.splitlines():
        if line.strip() and "weights_only" not in line and "torch.load" not in line and "docs" not in line:
            yield line.strip().removeprefix("WeightsUnpickler error: ")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
