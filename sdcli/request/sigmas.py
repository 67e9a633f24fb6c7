"""Sigmas: one's own noise levels, as typed: `14.6,7,2.1,0`."""

import math
from itertools import pairwise

from sdcli.errors import UsageError

MAX_STEPS = 1000


def parse(text: str) -> tuple[float, ...]:
    """Falling noise levels that end in 0, which is appended if it is missing; raises UsageError for others."""
    like = "try --sigmas 14.6,7,2.1,0.5,0"
    try:
        levels = [float(item) for item in text.split(",")]
    except ValueError:
        raise UsageError(f"--sigmas: {text!r} is not a list of numbers; {like}") from None
    if levels[-1] != 0:
        levels.append(0.0)
    for level in levels:
        if not math.isfinite(level) or level < 0:
            raise UsageError(
                f"--sigmas: {level:g} is not a noise level: they are finite and not negative; {like}"
            )
    for before, level in pairwise(levels):
        if level >= before:
            raise UsageError(f"--sigmas: {level:g} after {before:g}: the levels must fall; {like}")
    if not 2 <= len(levels) <= MAX_STEPS + 1:
        raise UsageError(f"--sigmas: {len(levels) - 1} steps are outside 1...{MAX_STEPS}; {like}")
    return tuple(levels)


def plain(levels: tuple[float, ...]) -> str:
    """The levels in the one spelling that is stored: `14.6,7,2.1,0`."""
    return ",".join(repr(level).removesuffix(".0") for level in levels)
