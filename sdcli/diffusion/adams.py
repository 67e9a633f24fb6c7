"""The Adams-Bashforth average of slopes at even steps, shared by the pseudo numerical methods."""

from collections.abc import Sequence

from torch import Tensor

_COEFFICIENTS = {1: (1,), 2: (3, -1), 3: (23, -16, 5), 4: (55, -59, 37, -9)}


def adams(slopes: Sequence[Tensor]) -> Tensor:
    """The slope for the next step from the last one to four slopes, latest first (Liu et al. 2022, equation 9)."""
    coefficients = _COEFFICIENTS[len(slopes)]
    total = slopes[0] * coefficients[0]
    for slope, coefficient in zip(slopes[1:], coefficients[1:], strict=True):
        total = total + slope * coefficient
    return total / sum(coefficients)
