"""Placement: which device, which number format and how many threads the networks run with."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from sdcli.errors import OutOfMemory, UsageError

LARGE = 200_000_000  # parameters from which bf16 matrix units pay; below, conversions eat what they gain


@dataclass(frozen=True)
class Placement:
    """Where the networks run and in which dtype."""

    device: torch.device
    dtype: torch.dtype

    @property
    def facts(self) -> dict[str, object]:
        """What a picture's metadata says of the place."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        return {
            "device": name,
            "dtype": str(self.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }


def choose_device(device: str, dtype: str, parameters: int) -> Placement:
    """The place for networks of so many parameters; `auto` is the fastest that keeps the picture.

    CUDA takes float16. A CPU takes float32, but bfloat16 for large networks where it has matrix units for it (AMX).
    Raises UsageError for a device that is not there or a dtype that it cannot run.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(device.partition(":")[2] or 0) >= count:
            raise UsageError(f"--device {device}: torch sees {count} CUDA devices here; use --device cpu")
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.allow_tf32 = False  # who asks for float32 wants its 24 bits in convolutions too
        return Placement(torch.device(device), torch.float16 if dtype == "auto" else getattr(torch, dtype))
    torch.set_num_threads(threads())
    if dtype == "float16":
        raise UsageError("--dtype float16 is for CUDA; on a CPU use --dtype bfloat16 or float32")
    if dtype == "auto":
        dtype = "bfloat16" if parameters >= LARGE and has_bf16_matrix_units() else "float32"
    return Placement(torch.device("cpu"), getattr(torch, dtype))


def threads() -> int:
    """Threads that help: one a physical core that this process may use, within a container's share.

    OMP_NUM_THREADS, where set, has the last word.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:  # not Linux
        return max(1, os.cpu_count() or 1)
    cores = {_text(f"/sys/devices/system/cpu/cpu{i}/topology/thread_siblings_list", str(i)) for i in allowed}
    quota, _, period = _text("/sys/fs/cgroup/cpu.max", "max 1").partition(" ")
    share = int(quota) / int(period) if quota.isdigit() and period.isdigit() else len(cores)
    return max(1, min(len(cores), round(share)))


def keep_memory() -> None:
    """Let glibc keep what one layer frees for the next.

    By itself it returns large blocks to the system; 3 GB fetched anew, page by page, are a sixth of a step of a large
    network on a CPU.
    """
    global _keeps
    _keeps = True
    _keep(2**30)


@contextlib.contextmanager
def sparing() -> Iterator[None]:
    """For a while, keep no large block: where layers are of half a gigabyte, kept ones leave too little room."""
    if _keeps:
        _keep(2**25)  # from where glibc never keeps one by itself
        return_memory()
    try:
        yield
    finally:
        if _keeps:
            _keep(2**30)


_keeps = False


def _keep(largest: int) -> None:
    """Keep blocks of fewer bytes than `largest`, and twice as many bytes in all before the rest is returned."""
    _glibc("mallopt", -3, largest)  # M_MMAP_THRESHOLD
    _glibc("mallopt", -1, 2 * largest - 1)  # M_TRIM_THRESHOLD


def return_memory() -> None:
    """Return to the system what is kept and free, as before a model is loaded for which there must be room."""
    _glibc("malloc_trim", 0)


def _glibc(name: str, *told: int) -> None:
    call = getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
    if call is not None:  # another C library has none of this
        call(*told)


@contextlib.contextmanager
def memory_errors(doing: str, step: str = "choose a smaller --width and --height") -> Iterator[None]:
    """Turn the several ways in which torch runs out of memory into one line, with what to do next."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory(f"out of memory while {doing}; {step}") from error
    except RuntimeError as error:
        if "DefaultCPUAllocator" not in str(error):
            raise
        raise OutOfMemory(f"out of memory while {doing}; {step}") from error


def has_bf16_matrix_units() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in units of their own (AMX)."""
    probe = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(probe and probe())


def _text(path: str, otherwise: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return otherwise
