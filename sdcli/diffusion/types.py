"""The signatures of the sampling code. Sigma is the noise level of x = data + sigma * unit noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from sdcli.diffusion.conditioning import Composed, Cond
    from sdcli.diffusion.levels import Levels

Sigmas = Sequence[float]
"""Falling noise levels that end in 0: one more than there are steps."""

Predict = Callable[["Tensor", float, Sequence["Cond"]], list["Tensor"]]
"""The network: (x, sigma, conds) -> one denoised estimate per cond, each of the shape of x, (1, 4, h/8, w/8)."""

PredictComposed = Callable[["Tensor", float, Sequence["Composed"]], list["Tensor"]]
"""The network for composed prompts: (x, sigma, composed prompts) -> one denoised estimate per prompt."""

Denoise = Callable[["Tensor", float], "Tensor"]
"""The guided network: (x, sigma) -> denoised. The result may carry its unguided estimate; see `uncond.uncond_of`."""

Noise = Callable[[float, float], "Tensor"]
"""(sigma, lower) -> unit noise of the shape of x for that step; one seeded stream per picture."""


class Schedule(Protocol):
    """(steps, levels, *, options) -> falling sigmas that end in 0."""

    def __call__(self, steps: int, levels: Levels, /) -> Sigmas: ...


class Guidance(Protocol):
    """(predict, positive, negative, scale, *, options) -> Denoise."""

    def __call__(
        self, predict: PredictComposed, positive: Composed, negative: Composed, scale: float, /
    ) -> Denoise: ...


class Sampler(Protocol):
    """(denoise, x, sigmas, noise, *, options) -> yields x after each step."""

    def __call__(self, denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise, /) -> Iterator[Tensor]: ...
