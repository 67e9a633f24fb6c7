"""Check that the network's estimates are finite: stops a run at the first one that is not."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

from sdcli.diffusion.types import Denoise
from sdcli.errors import NotFinite

LATE = 2
"""Estimates by which the check is late on a GPU, which would else wait for the CPU, and the CPU for it, at each one."""


def check_finite(denoise: Denoise, late: int | None = None) -> Denoise:
    """The same denoise, which raises NotFinite with the noise level if an estimate is not finite.

    It does so `late` calls later; if not given, at once on a CPU. What the last calls of a run leave is found when the
    picture is decoded.
    """
    waiting: deque[tuple[float, Callable[[], bool]]] = deque()

    def checked(x: Tensor, sigma: float) -> Tensor:
        denoised = denoise(x, sigma)
        waiting.append((sigma, _answer(torch.isfinite(denoised).all())))
        while len(waiting) > (LATE * denoised.is_cuda if late is None else late):
            level, is_finite = waiting.popleft()
            if not is_finite():
                raise NotFinite(
                    f"the network's estimate at noise level {level:.4g} is not finite; try --dtype float32"
                )
        return denoised

    return checked


def _answer(flag: Tensor) -> Callable[[], bool]:
    """What waits for a flag, and for nothing that was begun after it."""
    if not flag.is_cuda:
        return lambda: bool(flag)
    there = torch.empty((), dtype=torch.bool, pin_memory=True).copy_(flag, non_blocking=True)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record()

    def wait() -> bool:
        copied.synchronize()
        return bool(there)

    return wait
