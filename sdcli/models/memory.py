"""Room: how much memory a device has free, within a container's limit."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from sdcli.models.device import return_memory

CGROUPS = Path("/sys/fs/cgroup")


def free(device: torch.device) -> float:
    """Bytes that can be taken on the device before it must swap or fail; infinite where that cannot be told."""
    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + idle)
    return_memory()  # what is kept for the next layer is free too
    told = _numbers(Path("/proc/meminfo"))
    return min([1024 * told.get("MemAvailable:", math.inf), *_left_to_groups()])


def swap() -> float:
    """Bytes of swap that are free."""
    return 1024 * _numbers(Path("/proc/meminfo")).get("SwapFree:", 0.0)


def _left_to_groups() -> list[float]:
    """What the limit of each control group that this process is in leaves; cached files give way, so they count."""
    left = []
    for group in _groups():
        for limit, used, idle in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            most, now = _number(group / limit), _number(group / used)
            if most is not None and now is not None:
                left.append(most - now + _numbers(group / "memory.stat").get(idle, 0.0))
    return left


def _groups() -> list[Path]:
    """The folders of this process's memory groups, from the innermost out; version 1 or 2."""
    found: list[Path] = []
    for line in _text(Path("/proc/self/cgroup")).splitlines():
        number, kinds, path = [*line.split(":", 2), "", ""][:3]
        if number == "0" or "memory" in kinds.split(","):
            root = CGROUPS / kinds
            inner = root / path.strip("/")
            found += [inner, *(each for each in inner.parents if each.is_relative_to(root))]
    return found


def _number(path: Path) -> float | None:
    text = _text(path).strip()
    return float(text) if text.isdigit() else None


def _numbers(path: Path) -> dict[str, float]:
    """A file of lines that are a name and a number."""
    pairs = (line.split() for line in _text(path).splitlines())
    return {pair[0]: float(pair[1]) for pair in pairs if len(pair) > 1 and pair[1].isdigit()}


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
