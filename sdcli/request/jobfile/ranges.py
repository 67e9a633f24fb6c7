"""Ranges: `1..8`, `4..10 by 2` and `0.3..0.9 in 4`, with both ends, in either direction, counted in decimals.

`by` never goes past the end; `in` gives so many values from one end to the other. Where whole numbers are wanted, the
values of `in` are rounded to the nearest, a half upwards. A1111's spellings `1-10`, `1-10 (+2)` and `1-10 [5]` stand
for the same ranges.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from math import floor

from sdcli.errors import UsageError

MAX_VALUES = 1_000_000

_UNSIGNED = r"[0-9]{1,20}(?:\.[0-9]{1,20})?"
_NUMBER = f"[-+]?{_UNSIGNED}"
_RANGE = re.compile(
    rf"\s*({_NUMBER})\s*\.\.\s*({_NUMBER})(?:\s+by\s+({_NUMBER})|\s+in\s+([0-9]{{1,20}}))?\s*", re.ASCII
)
_A1111 = re.compile(
    rf"\s*({_NUMBER})\s*-\s*({_NUMBER})(?:\s*\(\s*([-+]{_UNSIGNED})\s*\)|\s*\[\s*([0-9]{{1,20}})\s*\])?\s*",
    re.ASCII,
)


def parse_range(
    text: str, whole: bool, a1111: bool = False, most: int = MAX_VALUES
) -> list[int] | list[float] | None:
    """The values of a range; None if the text is none. `a1111`: its spellings are understood too.

    Raises UsageError for a step of 0 or in the wrong direction, values that are not whole where they are to be, and
    more than `most` values, of which none is made then.
    """
    found = _RANGE.fullmatch(text) or (_A1111.fullmatch(text) if a1111 else None)
    if found is None:
        return None
    signed, text = found.re is _A1111, text.strip()
    first, last = Fraction(Decimal(found[1])), Fraction(Decimal(found[2]))
    if found[4] is not None:
        exact = _evenly(text, first, last, int(found[4]), most)
        values = [Fraction(floor(value + Fraction(1, 2))) for value in exact] if whole else exact
        if len(set(values)) < len(values):
            raise UsageError(f"{text}: some values come twice; ask for fewer values")
    else:
        step = None if found[3] is None else Fraction(Decimal(found[3]))
        values = _by_steps(text, first, last, step, signed, most)
    if not whole:
        return [float(value) for value in values]
    for value in values:
        if value.denominator != 1:
            raise UsageError(
                f"{text}: gives {float(value):g}, and whole numbers are wanted; give whole ends and steps"
            )
    return [int(value) for value in values]


def _by_steps(
    text: str, first: Fraction, last: Fraction, step: Fraction | None, signed: bool, most: int
) -> list[Fraction]:
    """first, first + step, … up to last, which is among them only if a step meets it.

    A `signed` step, as A1111 writes it, leads downwards only with its sign; another takes its direction from the ends.
    """
    direction = 1 if last >= first else -1
    if step == 0:
        raise UsageError(f"{text}: a step of 0 never ends; give another")
    if step is not None and step < 0 < direction:
        raise UsageError(f"{text}: a step below 0 leads away from the end; write it without the sign")
    if step is not None and signed and direction < 0 < step:
        raise UsageError(f"{text}: a step above 0 leads away from the end; write it with a -")
    size = abs(step if step is not None else Fraction(1)) * direction
    number = (last - first) // size + 1
    _check_number(text, number, most)
    return [first + size * i for i in range(number)]


def _evenly(text: str, first: Fraction, last: Fraction, number: int, most: int) -> list[Fraction]:
    """So many values from first to last, at equal distances."""
    _check_number(text, number, most)
    if (number < 2 and first != last) or number < 1:
        raise UsageError(f"{text}: has two ends, so at least 2 values; ask for more")
    return [first + (last - first) * i / max(number - 1, 1) for i in range(number)]


def _check_number(text: str, number: int, most: int) -> None:
    if number > most:
        raise UsageError(f"{text}: gives {number:,} values, and at most {most:,} are taken; make it shorter")
