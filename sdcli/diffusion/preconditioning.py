"""Preconditioning: how a network that was trained in one way is asked for a denoised estimate.

In the words of Karras et al. 2022, "Elucidating the Design Space", equation 7: c_in scales what the network sees,
c_noise tells it the level, c_skip and c_out make the estimate from x and from what the network returns. Prediction
types (epsilon, v, sample) end here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sdcli.diffusion.levels import Levels

if TYPE_CHECKING:
    from torch import Tensor


class Preconditioning(Protocol):
    """The three places where a network's training shows."""

    def scaled(self, x: Tensor, sigma: float) -> Tensor:
        """x as the network sees it: c_in * x, of unit variance."""

    def timestep(self, sigma: float, given: Callable[[float], float] = float) -> float:
        """How the network is told sigma: c_noise. `given` maps a timestep to the one it is given."""

    def denoised(self, x: Tensor, out: Tensor, sigma: float) -> Tensor:
        """The estimate of the data: c_skip * x + c_out * out, where `out` is what the network returned."""


def preconditioning(levels: Levels, prediction: str) -> Preconditioning:
    """The preconditioning of a network trained on these levels to predict epsilon, v_prediction or sample."""
    if levels.sigma_data is not None:
        return Edm(levels.sigma_data, prediction)
    return VariancePreserving(levels, prediction)


TO_DENOISED: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "epsilon": lambda x, out, sigma: x - sigma * out,
    "v_prediction": lambda x, out, sigma: x / (sigma**2 + 1) - out * (sigma / math.sqrt(sigma**2 + 1)),
    "sample": lambda x, out, sigma: out,
}
"""Prediction type -> (x, the network's output, sigma) -> denoised (Salimans & Ho 2022, appendix D, in sigma)."""


@dataclass(frozen=True)
class VariancePreserving:
    """DDPM's kind, and Stable Diffusion's: the network sees x of unit variance and the timestep of its level."""

    levels: Levels
    prediction: str

    def scaled(self, x: Tensor, sigma: float) -> Tensor:
        """x / sqrt(sigma^2 + 1)."""
        return x / math.sqrt(sigma**2 + 1)

    def timestep(self, sigma: float, given: Callable[[float], float] = float) -> float:
        """The timestep of the level, in general a fraction."""
        return given(self.levels.t(sigma))

    def denoised(self, x: Tensor, out: Tensor, sigma: float) -> Tensor:
        """By the prediction type."""
        return TO_DENOISED[self.prediction](x, out, sigma)


EDM_SIGNS = {"epsilon": 1.0, "v_prediction": -1.0}
"""Prediction type -> the sign of c_out, as diffusers' EDM schedulers name the two."""


@dataclass(frozen=True)
class Edm:
    """Karras et al. 2022, table 1, for data of standard deviation `sigma_data`: Playground 2.5, CosXL."""

    sigma_data: float
    prediction: str

    def scaled(self, x: Tensor, sigma: float) -> Tensor:
        """x / sqrt(sigma^2 + sigma_data^2)."""
        return x / math.hypot(sigma, self.sigma_data)

    def timestep(self, sigma: float, given: Callable[[float], float] = float) -> float:
        """ln(sigma) / 4."""
        return math.log(sigma) / 4

    def denoised(self, x: Tensor, out: Tensor, sigma: float) -> Tensor:
        """c_skip = sigma_data^2 / (sigma^2 + sigma_data^2), c_out = sigma sigma_data / sqrt(sigma^2 + sigma_data^2)."""
        total = math.hypot(sigma, self.sigma_data)
        skip = (self.sigma_data / total) ** 2
        scale = EDM_SIGNS[self.prediction] * sigma * self.sigma_data / total
        return skip * x + scale * out
