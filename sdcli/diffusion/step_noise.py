"""Step noise: the noise of an exponential SDE solver at the levels inside one step, each carried on to the next."""

import math

from torch import Tensor

from sdcli.diffusion.types import Noise


class StepNoise:
    """The noise that has entered since the step began; older noise decays as the estimate's weight grows.

    eta is the share of fresh noise, s_noise a factor on it; nothing is drawn if either is 0.
    """

    def __init__(self, noise: Noise, eta: float, s_noise: float) -> None:
        self.noise, self.eta, self.s_noise = noise, eta, s_noise
        self._unit: Tensor | float = 0.0

    def __call__(self, sigma: float, lower: float) -> Tensor | float:
        """What is added to x at level `lower`, which follows `sigma` inside the step."""
        if self.eta == 0 or self.s_noise == 0:
            return 0.0
        decay = self.eta * math.log(sigma / lower)
        fresh = self.noise(sigma, lower) * math.sqrt(-math.expm1(-2 * decay))
        self._unit = fresh + self._unit * math.exp(-decay)
        return self._unit * (lower * self.s_noise)
