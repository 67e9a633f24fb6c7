"""Sigmas: noise levels that the user types instead of a schedule: `14.6,7,2.1,0`."""

import math
from itertools import pairwise

from sdcli.errors import UsageError

MAX_STEPS = 1000


def parse(text: str) -> tuple[float, ...]:
    """`14.6,7,2.1` -> (14.6, 7.0, 2.1, 0.0): falling noise levels that end in 0, which is appended if it is missing.

    Raises UsageError for anything else.
    """
    example = "try --sigmas 14.6,7,2.1,0.5,0"
    try:
        levels = [float(item) for item in text.split(",")]
    except ValueError:
        raise UsageError(f"--sigmas: {text!r} is not a list of numbers; {example}") from None
    if levels[-1] != 0:
        levels.append(0.0)
    for level in levels:
        if not math.isfinite(level) or level < 0:
            raise UsageError(
                f"--sigmas: {level:g} is not a noise level: they are finite and not negative; {example}"
            )
    for before, level in pairwise(levels):
        if level >= before:
            raise UsageError(f"--sigmas: {level:g} after {before:g}: the levels must fall; {example}")
    if not 2 <= len(levels) <= MAX_STEPS + 1:
        raise UsageError(f"--sigmas: {len(levels) - 1} steps are outside 1...{MAX_STEPS}; {example}")
    return tuple(levels)


def to_text(levels: tuple[float, ...]) -> str:
    """(14.6, 7.0, 2.1, 0.0) -> `14.6,7,2.1,0`, the one spelling that is stored; `parse` gets every bit back."""
    return ",".join(repr(level).removesuffix(".0") for level in levels)
