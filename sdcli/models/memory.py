"""Memory: how much a device has free within a container's limit, and what glibc keeps between layers."""

from __future__ import annotations

import contextlib
import ctypes
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from sdcli.errors import OutOfMemory

CGROUPS = Path("/sys/fs/cgroup")


def free(device: torch.device) -> float:
    """Bytes that can be allocated on the device before it swaps or fails; infinite where that is unknown."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + unused)
    return_memory()  # freed blocks that glibc keeps for the next layer count as free
    available = _named_numbers(Path("/proc/meminfo")).get("MemAvailable:", math.inf)
    return min([1024 * available, *_left_in_cgroups()])


def swap() -> float:
    """Bytes of swap that are free."""
    return 1024 * _named_numbers(Path("/proc/meminfo")).get("SwapFree:", 0.0)


def _left_in_cgroups() -> list[float]:
    """Bytes left under the limit of each control group that this process is in.

    Cached file pages are given back under pressure, so they count as free.
    """
    left = []
    for group in _cgroups():
        for limit_file, usage_file, cache_key in (
            ("memory.max", "memory.current", "inactive_file"),  # version 2
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),  # version 1
        ):
            limit, usage = _number(group / limit_file), _number(group / usage_file)
            if limit is not None and usage is not None:
                left.append(limit - usage + _named_numbers(group / "memory.stat").get(cache_key, 0.0))
    return left


def _cgroups() -> list[Path]:
    """Folders of this process's memory control groups, innermost first; version 1 or 2."""
    folders: list[Path] = []
    for line in _text(Path("/proc/self/cgroup")).splitlines():
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number == "0" or "memory" in controllers.split(","):
            root = CGROUPS / controllers
            innermost = root / path.strip("/")
            folders += [innermost, *(each for each in innermost.parents if each.is_relative_to(root))]
    return folders


def _number(path: Path) -> float | None:
    text = _text(path).strip()
    return float(text) if text.isdigit() else None


def _named_numbers(path: Path) -> dict[str, float]:
    """A file whose lines are a name and a number."""
    pairs = (line.split() for line in _text(path).splitlines())
    return {pair[0]: float(pair[1]) for pair in pairs if len(pair) > 1 and pair[1].isdigit()}


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def keep_memory() -> None:
    """Let glibc keep the memory that one layer frees for the next layer.

    Without this it returns large blocks to the system. Fetching 3 GB anew, page by page, takes a sixth of the time of
    a step of a large network on a CPU.
    """
    global _keeps_memory
    _keeps_memory = True
    _keep_blocks_below(2**30)


def keep_no_memory() -> None:
    """Let glibc return every block of a megabyte or more, as each layer gets its weights anew and soon drops them.

    Otherwise such blocks leave gaps between others that stay: SDXL in float32 then takes twice the memory.
    """
    global _keeps_memory
    _keeps_memory = False
    _keep_blocks_below(2**20)


@contextlib.contextmanager
def keep_less_memory() -> Iterator[None]:
    """While inside, keep no large block: where layers take half a gigabyte, kept blocks leave too little room."""
    if _keeps_memory:
        _keep_blocks_below(2**25)  # glibc never keeps blocks of this size by default
        return_memory()
    try:
        yield
    finally:
        if _keeps_memory:
            _keep_blocks_below(2**30)


_keeps_memory = False  # a setting of the whole process, as glibc's own is


def _keep_blocks_below(size: int) -> None:
    """Keep freed blocks of fewer bytes than `size`, and up to twice as many bytes in all."""
    _glibc("mallopt", -3, size)  # M_MMAP_THRESHOLD
    _glibc("mallopt", -1, 2 * size - 1)  # M_TRIM_THRESHOLD


def return_memory() -> None:
    """Return freed blocks to the system, to make room before a model is loaded."""
    _glibc("malloc_trim", 0)


def _glibc(function: str, *arguments: int) -> None:
    call = getattr(ctypes.CDLL(None), function, None) if sys.platform == "linux" else None
    if call is not None:  # other C libraries lack these functions
        call(*arguments)


@contextlib.contextmanager
def memory_errors(doing: str, advice: str = "choose a smaller --width and --height") -> Iterator[None]:
    """Turn the ways in which torch runs out of memory into one OutOfMemory error that says what to do next."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory(f"out of memory while {doing}; {advice}") from error
    except RuntimeError as error:
        if "DefaultCPUAllocator" not in str(error):
            raise
        raise OutOfMemory(f"out of memory while {doing}; {advice}") from error
