"""Machine: what of this computer decides the last bits of a picture, and its speed. Imports no torch."""

from __future__ import annotations

import functools
import os
import platform
import sys
from pathlib import Path

_INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")
"""Flags of a CPU by which torch and its libraries choose how they calculate."""


def helpful_threads() -> int:
    """How many threads help: one per physical core that this process may use, within a container's CPU share.

    OMP_NUM_THREADS overrides it.
    """
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    try:
        processors = os.sched_getaffinity(0)
    except AttributeError:  # not Linux
        return max(1, os.cpu_count() or 1)
    siblings = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    cores = {_text(siblings.format(i), default=str(i)) for i in processors}
    quota, _, period = _text("/sys/fs/cgroup/cpu.max", default="max 1").partition(" ")
    share = int(quota) / int(period) if quota.isdigit() and period.isdigit() else len(cores)
    return max(1, min(len(cores), round(share)))


@functools.cache
def instructions() -> str:
    """The machine's architecture, and the instruction sets of its CPU that change how sums are rounded."""
    names = ("flags", "features")
    for line in _text("/proc/cpuinfo", default="").splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() in names:
            flags = set(value.split())
            return " ".join([platform.machine(), *(each for each in _INSTRUCTIONS if each in flags)])
    return f"{platform.machine()} {platform.processor()}".strip()


@functools.cache
def cpu_maker() -> str:
    """AMD or Intel; for other processors the architecture, such as arm64."""
    makers = {"AuthenticAMD": "AMD", "GenuineIntel": "Intel"}
    text = _text("/proc/cpuinfo", default="") or platform.processor()  # which may start another program
    return next((maker for name, maker in makers.items() if name in text), platform.machine())


@functools.cache
def installed_version(package: str) -> str | None:
    """The version of an installed package, or None; `package` is its normalized name, such as torch.

    The folder of its metadata is called by it, and that is read in a hundredth of the time that importing
    importlib.metadata takes, which knows the rest: packages in zip files, in development, or there twice.
    """
    for folder in sys.path:
        try:
            names = os.listdir(folder or os.curdir)
        except OSError:
            continue
        versions = [name[len(package) + 1 : -len(".dist-info")] for name in names if _is_of(package, name)]
        if len(versions) == 1:
            return versions[0]

    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _is_of(package: str, name: str) -> bool:
    return name.startswith(f"{package}-") and name.endswith(".dist-info")


def has_gpu() -> bool:
    """True if there is a GPU that torch may use with CUDA."""
    return os.path.exists("/dev/nvidia0") and os.environ.get("CUDA_VISIBLE_DEVICES") != ""


def _text(path: str, default: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return default
