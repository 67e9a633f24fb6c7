"""Speed: limits of time that hold on any machine, however slow it is or busy it is just now."""

from __future__ import annotations

import time

NOMINAL = (
    0.05  # seconds of CPU time that the loop below takes on the machine for which the limits are written
)


def allowed(seconds: float) -> float:
    """A limit of CPU time, longer on a machine that is slower than the nominal one at this moment."""
    return seconds * max(1.0, 4 * _loop_seconds() / NOMINAL)


def _loop_seconds() -> float:
    start = time.process_time()
    total = 0
    for i in range(1_000_000):
        total += i * i
    return time.process_time() - start
