"""Regions: prompts for parts of the picture, `a cat@0,0,0.5,1` or `a cat@mask.png`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sdcli.errors import UsageError
from sdcli.home import expand_home

STRENGTH = 0.8
"""How much of its place a region takes from the prompt, unless it says so itself."""
EXAMPLE = "try --region 'a cat@0,0,0.5,1', the left half, or 'a cat@mask.png'"

Box = tuple[float, float, float, float]
"""Left, top, width and height in shares of the picture, 0 to 1."""


@dataclass(frozen=True)
class Region:
    """A prompt, and where in the picture it counts: in a box, or where a mask is white."""

    prompt: str
    box: Box | None
    mask: str = ""  # path of a picture, if there is no box
    strength: float = STRENGTH  # 0 to 1


def parse(text: str) -> Region:
    """`PROMPT@X,Y,WIDTH,HEIGHT[,STRENGTH]` or `PROMPT@MASK[,STRENGTH]`; raises UsageError."""
    prompt, separator, place = text.rpartition("@")
    if not separator or not prompt.strip() or not place.strip():
        raise UsageError(f"--region {text!r} is not PROMPT@PLACE; {EXAMPLE}")
    items = place.split(",")
    numbers = [_number(item) for item in items]
    if None not in numbers:
        return _in_box(text, prompt, [number for number in numbers if number is not None])
    last = numbers[-1] if len(items) > 1 else None
    if last is None:
        return Region(prompt, None, expand_home(place))
    return Region(prompt, None, expand_home(",".join(items[:-1])), _strength(text, last))


def _in_box(text: str, prompt: str, numbers: list[float]) -> Region:
    if len(numbers) not in (4, 5):
        raise UsageError(f"--region {text!r}: a box is X,Y,WIDTH,HEIGHT; {EXAMPLE}")
    left, top, width, height = numbers[:4]
    is_inside = (
        all(map(math.isfinite, numbers[:4]))
        and min(left, top) >= 0
        and left + width <= 1.000001
        and top + height <= 1.000001
    )
    if not is_inside or min(width, height) <= 0:
        raise UsageError(
            f"--region {text!r}: a box is X,Y,WIDTH,HEIGHT in shares of the picture, from 0 to 1; {EXAMPLE}"
        )
    strength = _strength(text, numbers[4]) if len(numbers) == 5 else STRENGTH
    return Region(prompt, (left, top, width, height), "", strength)


def _strength(text: str, value: float) -> float:
    if not 0 < value <= 1:
        raise UsageError(f"--region {text!r}: its strength {value:g} is not above 0 and up to 1; {EXAMPLE}")
    return value


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
