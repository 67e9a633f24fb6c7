"""Buckets: the sizes that pictures are trained at: about the area of one square, in several proportions."""

from __future__ import annotations

import math
from collections.abc import Sequence

Size = tuple[int, int]
"""(width, height) in pixels."""

MAX_PROPORTION = 2.0
"""The longer side of a bucket is at most so many times the shorter."""


def step_of(resolution: int, factor: int = 8) -> int:
    """What the sides of buckets are multiples of: 64 pixels as usual, fewer for pictures smaller than 256."""
    return 64 if resolution >= 256 else factor


def buckets(resolution: int, step: int) -> list[Size]:
    """The sizes, of sides that are multiples of `step`, whose area is at most the square's; narrow ones first.

    For each side it is the largest other one, as long as neither is more than twice the other. The square itself,
    rounded down to the step, is one of them.
    """
    area = resolution * resolution
    found = []
    for width in range(step, int(resolution * MAX_PROPORTION**0.5) + step + 1, step):
        height = area // width // step * step
        if height and max(width, height) <= MAX_PROPORTION * min(width, height):
            found.append((width, height))
    square = max(resolution // step, 1) * step
    return sorted({*found, *((height, width) for width, height in found), (square, square)})


def bucket_of(size: Size, sizes: Sequence[Size]) -> Size:
    """The bucket of which a picture of this size loses least when it is cut to its proportions; the largest of those.

    A picture and the same one turned by 90 degrees are in buckets that are turned the same way.
    """
    proportion = math.log(size[0] / size[1])

    def distance(bucket: Size) -> tuple[float, int]:
        return round(abs(math.log(bucket[0] / bucket[1]) - proportion), 9), -bucket[0] * bucket[1]

    nearest = min(map(distance, sizes))
    same = sorted(bucket for bucket in sizes if distance(bucket) == nearest)
    return same[-1] if proportion > 0 else same[0]


def scale_to(size: Size, bucket: Size) -> float:
    """By how much a picture of this size is scaled to fill the bucket."""
    return max(bucket[0] / size[0], bucket[1] / size[1])
