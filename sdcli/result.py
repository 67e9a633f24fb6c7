"""What a run tells while it goes, and what it leaves: records, and the clock they are timed by."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from PIL.Image import Image
from torch import Tensor

from sdcli.diffusion.replay import Recording
from sdcli.request.picture import Picture


@dataclass(frozen=True)
class Step:
    """One step of a run, as its watcher sees it, after it was taken: x stands at noise level sigma."""

    number: int  # 1 … total
    total: int
    sigma: float
    x: Tensor  # (1, 4, h/8, w/8) float32
    denoised: Tensor  # the network's estimate of the end, of the same shape
    picture: Callable[[], Image]  # the estimate decoded
    preview: Callable[[Tensor], Image]  # latents -> a soft picture of their own size, at once


Watcher = Callable[[Iterator[Step]], Iterable[Step]]
"""What looks on: it passes the steps through, and may show, save, time or stop them."""


@dataclass(frozen=True)
class Result:
    """What a run leaves: the picture, the latents it ended with, and, for who asks how it went, the seconds spent by
    stage and whether the networks were in memory all at once or one at a time.

    The latents of a run that was stopped stand at a noise level `sigma`, and its recording lets another go on.
    """

    picture: Picture
    latents: Tensor
    seconds: dict[str, float]
    networks: str
    sigma: float = 0.0
    recording: Recording | None = None


class Clock:
    """The seconds since the last call, added to the stage that is named."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def __call__(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + now - self._last, 3)
        self._last = now
