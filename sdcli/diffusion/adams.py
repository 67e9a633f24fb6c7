"""The Adams-Bashforth average of slopes at even steps, shared by the pseudo numerical methods."""

from collections.abc import Sequence

from torch import Tensor

_WEIGHTS = {1: (1,), 2: (3, -1), 3: (23, -16, 5), 4: (55, -59, 37, -9)}


def adams(slopes: Sequence[Tensor]) -> Tensor:
    """The slope to go on with, from one to four slopes, the latest first (Liu et al. 2022, equation 9)."""
    weights = _WEIGHTS[len(slopes)]
    total = slopes[0] * weights[0]
    for slope, weight in zip(slopes[1:], weights[1:], strict=True):
        total = total + slope * weight
    return total / sum(weights)
