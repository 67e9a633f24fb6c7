"""Spans: the noise levels at which each step of a run asks the network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple


class Span(NamedTuple):
    """The noise levels end < sigma <= start."""

    start: float
    end: float


def spans(sigmas: Sequence[float], evaluations: int = 1) -> list[Span]:
    """The span of each step between falling levels; together they cover every level.

    A step of two `evaluations` is two spans: that of its first evaluation is the step's first level alone.
    """
    found = [Span(start, end) for start, end in pairwise(sigmas)]
    if evaluations == 2:
        found = [half for span in found for half in _halves(span)]
    if found:
        found[0] = found[0]._replace(start=math.inf)
        found[-1] = found[-1]._replace(end=-math.inf)
    return found


def steps_apart(sigmas: Sequence[float], steps: int) -> list[float]:
    """The steps + 1 levels at which `steps` steps would be, if a sampler that chooses its own were to visit these.

    They are even in the logarithm of sigma between the levels that are there.
    """
    count = len(sigmas) - 1
    if count == steps or count < 1:
        return list(sigmas)
    levels = [max(_between(sigmas, i * count / steps), sigmas[-1]) for i in range(steps)]
    return [*accumulate(levels, min), sigmas[-1]]  # rounding may lead past levels that nearly touch


def _halves(span: Span) -> tuple[Span, Span]:
    below = math.nextafter(span.start, 0.0)
    return Span(span.start, below), Span(below, span.end)


def _between(sigmas: Sequence[float], position: float) -> float:
    """The level at a position between two of them; positions count from 0."""
    index = min(int(position), len(sigmas) - 2)
    share = position - index
    high, low = sigmas[index], sigmas[index + 1]
    if share == 0 or high == low:
        return high
    return high ** (1 - share) * low**share if low > 0 else high * (1 - share)
