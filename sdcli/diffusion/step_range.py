"""Step range: the noise levels of a part of a run's steps, such as its first half, as each tool counts it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from sdcli.diffusion.levels import Levels
from sdcli.diffusion.spans import Span, spans

StepRange = Callable[[float, float, Sequence[float], Levels], Span]
"""(start, end, falling levels of a run, trained levels) -> the noise levels end < sigma <= start; start and end are in
0 … 1. An empty range has end >= start."""

ROUNDED = 1e-6
"""By how much a share may be less than that of a step, as 0.666667 of 2/3."""

NEVER = Span(-math.inf, math.inf)


def steps_between(start: float, end: float, sigmas: Sequence[float]) -> Span:
    """Step i of n, counted from 0, is in the range if start <= i / n < end, so that ranges which meet share no step."""
    return _of_steps(sigmas, lambda i, n: start - ROUNDED <= i / n < end - ROUNDED)


def a1111_range(start: float, end: float, sigmas: Sequence[float], trained: Levels) -> Span:
    """Step i of n, counted from 0, is in the range if start <= i / n <= end."""
    return _of_steps(sigmas, lambda i, n: start <= i / n <= end)


def diffusers_range(start: float, end: float, sigmas: Sequence[float], trained: Levels) -> Span:
    """Step i of n, counted from 0, is in the range unless i / n < start or (i + 1) / n > end."""
    return _of_steps(sigmas, lambda i, n: i / n >= start and (i + 1) / n <= end)


def comfyui_range(start: float, end: float, sigmas: Sequence[float], trained: Levels) -> Span:
    """The share p of the run ends at the level of timestep (1 - p) * 999, whatever steps are taken; both ends count."""
    low = trained.sigma((1 - end) * trained.last)
    return Span(
        math.inf if start <= 0 else trained.sigma((1 - start) * trained.last),
        -math.inf if end >= 1 else math.nextafter(low, 0.0),
    )


def holds(span: Span, sigma: float) -> bool:
    """True if the noise level is in the range."""
    return span.end < sigma <= span.start


def _of_steps(sigmas: Sequence[float], is_in: Callable[[int, int], bool]) -> Span:
    found = spans(sigmas)
    inside = [span for i, span in enumerate(found) if is_in(i, len(found))]
    return Span(inside[0].start, inside[-1].end) if inside else NEVER
