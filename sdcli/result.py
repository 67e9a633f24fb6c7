"""Result: what a run reports on the way, and what it leaves."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

from sdcli import store
from sdcli.diffusion.replay import Recording
from sdcli.request.encode import SUFFIXES
from sdcli.request.picture import Picture, encoding_of


@dataclass(frozen=True)
class Step:
    """One step of a run, after it was taken: x is at noise level sigma."""

    number: int  # 1 … total
    total: int
    sigma: float
    x: Tensor  # (1, 4, h/8, w/8) float32
    denoised: Tensor  # the network's estimate of the finished latents, of the same shape
    picture: Callable[[], Image]  # decodes the estimate
    preview: Callable[[Tensor], Image]  # latents -> a soft picture of their own size, at once


Watcher = Callable[[Iterator[Step]], Iterable[Step]]
"""Passes the steps of a run through; on the way it may show, save, time or stop them."""


@dataclass(frozen=True)
class Result:
    """What a run leaves: the picture, its latents, the seconds spent by stage, and how the networks were in memory.

    The latents of a run that was stopped are at a noise level `sigma`, and its recording lets another run go on.
    `attention` has a plane (height, width) for each word that was asked for: the share of the cross-attention that the
    word gets at each pixel, 0 … 1, averaged over heads, layers and steps.
    """

    picture: Picture
    latents: Tensor
    seconds: dict[str, float]
    networks: str
    sigma: float = 0.0
    recording: Recording | None = None
    attention: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def save(
        self, path: str | os.PathLike[str] | None = None, *, metadata: bool = True, quality: int | None = None
    ) -> Path:
        """Write the picture as `sd` does, whole or not at all, with the metadata that makes it again; returns its path.

        `path` is a folder, or a file name that may hold {prompt}, {seed} and so on; without it, the picture goes to the
        current folder. It may end in .png, .jpg or .webp; `quality`, 1 to 100, is that of a .jpg, or of a .webp with
        loss. Nothing is overwritten: a name that is taken gets a number. Raises WriteError, and UsageError for a path
        that cannot be meant.
        """
        out = None if path is None else os.fspath(path)
        file = store.output_path(out, self.picture.request, *SUFFIXES)
        encoding = encoding_of(file.suffix, quality, self.picture.request)
        return store.save(self.picture.encoded(encoding, metadata), file)


class Clock:
    """Adds up the seconds of each stage: `clock("load")` ends the stage that is named."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def __call__(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + now - self._last, 3)
        self._last = now
