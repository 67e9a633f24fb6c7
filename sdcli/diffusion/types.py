"""The six signatures everything here is made of. Sigma is the noise level of x = data + sigma * unit noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from sdcli.diffusion.levels import Levels

Sigmas = Sequence[float]
"""Falling noise levels that end in 0: one more than there are steps."""

Predict = Callable[["Tensor", float, Sequence[Any]], list["Tensor"]]
"""The network: (x, sigma, conds) -> one denoised estimate a cond, each of the shape of x (1, 4, h/8, w/8)."""

Denoise = Callable[["Tensor", float], "Tensor"]
"""The guided network: (x, sigma) -> denoised. What it returns may also answer `unguided.unguided(denoised)`."""

Noise = Callable[[float, float], "Tensor"]
"""Unit noise of the shape of x for the step (sigma, lower); one seeded stream a picture. Brownian is one, too."""


class Schedule(Protocol):
    """(steps, levels, *, options) -> falling sigmas that end in 0."""

    def __call__(self, steps: int, levels: Levels, /) -> Sigmas: ...


class Guidance(Protocol):
    """(predict, positive, negative, scale, *, options) -> Denoise."""

    def __call__(self, predict: Predict, positive: Any, negative: Any, scale: float, /) -> Denoise: ...


class Sampler(Protocol):
    """(denoise, x, sigmas, noise, *, options) -> yields x after each step."""

    def __call__(self, denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise, /) -> Iterator[Tensor]: ...
