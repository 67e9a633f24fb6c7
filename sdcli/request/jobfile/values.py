"""Values: what a job says of a field, as the values that it takes: one, or those of an axis."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sdcli.errors import SdError, UsageError
from sdcli.request import fields
from sdcli.request.jobfile.keys import DECLARED, OPTIONS
from sdcli.request.jobfile.nodes import Faults, Node, Scalar, kind_of
from sdcli.request.jobfile.places import Place
from sdcli.request.jobfile.ranges import parse_range

_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", re.ASCII)
_OTHER_RANGE = re.compile(r"\s*-?[0-9.]+\s*[:-]\s*-?[0-9.]+.*", re.ASCII)


class Asked(NamedTuple):
    """A value of a field: as it is typed, and as the Request takes it."""

    typed: Any
    value: Any


RANDOM = Asked("random", None)
"""A seed that is left open."""


class Stated(NamedTuple):
    """What is said under a key, and where."""

    node: Node
    place: Place


@dataclass(frozen=True)
class Axis:
    """Fields that step together, mostly one, and their values at each step."""

    names: tuple[str, ...]
    points: Sequence[tuple[Asked, ...]]


def values_of(name: str, stated: Stated, faults: Faults, a1111: bool = False) -> Asked | Axis | None:
    """The value of a field, or its axis: a list in a field of one value, a range, a list of lists in a field of many.

    None if a fault was found. `a1111`: its spellings of ranges are understood.
    """
    node, place = stated
    before = faults.number
    is_axis, items = _items(name, stated, faults)
    asked: list[Asked] = []
    for item in items:
        if len(asked) >= place.max_values:
            faults.add(
                place.source(item), f"{name}: at most {place.max_values:,} values are taken; take some out"
            )
            break
        try:
            found = _many(name, item, place) if OPTIONS[name].many else _scalars(name, item, place, a1111)
        except SdError as error:
            faults.add(place.source(item), error)
            continue
        is_axis = is_axis or len(found) > 1
        asked += found
    if faults.number > before:
        return None
    if is_axis and not asked:
        faults.add(
            place.source(node), f"{name}: an axis without a value gives no job; put values into the list"
        )
        return None
    return Axis((name,), [(each,) for each in asked]) if is_axis else asked[0]


def _items(name: str, stated: Stated, faults: Faults) -> tuple[bool, list[Node]]:
    """Whether a field's node is an axis, and the nodes of its values."""
    value = stated.node.value
    if not isinstance(value, list):
        return False, [stated.node]
    if OPTIONS[name].many and not any(isinstance(each.value, list) for each in value):
        return False, [stated.node]
    return True, value


def _many(name: str, node: Node, place: Place) -> list[Asked]:
    """The one value of a field that holds several: a list of texts, or one text."""
    texts = node.value if isinstance(node.value, list) else [node]
    typed = [each.value for each in texts]
    for value in typed:
        if not isinstance(value, str):
            raise UsageError(f"{name}: {kind_of(value)} is not a text; give a list of texts")
    checked = fields.checked(DECLARED[name], typed)
    return [Asked(node.plain(), tuple(place.value(name, each) for each in checked))]


def _scalars(name: str, node: Node, place: Place, a1111: bool) -> list[Asked]:
    """The value of a field that holds one, or the values of a range."""
    value, option = node.value, OPTIONS[name]
    if isinstance(value, list | dict):
        is_braces = isinstance(value, dict) and option.type is str
        advice = "put a text that begins with { in quotes" if is_braces else "give one"
        raise UsageError(f"{name}: {kind_of(value)} stands where a value is wanted; {advice}")
    if value is None:
        raise UsageError(f"{name}: null is no value of an axis; leave it out")
    if place.texts and isinstance(value, str):
        value = converted(option.type, value)
    if name == "seed" and (value == "random" or (value == -1 and not isinstance(value, bool))):
        return [RANDOM]
    if isinstance(value, str) and option.type in (int, float):
        numbers = parse_range(value, option.type is int, a1111, place.max_values)
        if numbers is None:
            raise UsageError(_no_number(name, value, option.type is int))
        return [Asked(_short(each), fields.checked(DECLARED[name], each)) for each in numbers]
    if isinstance(value, str) and option.type is bool:
        raise UsageError(f"{name}: {value!r} is not true or false, which are written so")
    if not isinstance(value, str) and option.type is str:
        raise UsageError(f"{name}: {node.plain()!r} is not a text; put it in quotes")
    checked = fields.checked(DECLARED[name], value)
    return [Asked(value, place.value(name, checked) if isinstance(checked, str) else checked)]


def _short(number: float) -> float:
    """A number as one types it: 4 for 4.0."""
    return int(number) if number == int(number) else number


def _no_number(name: str, text: str, whole: bool) -> str:
    kind = "a whole number" if whole else "a number"
    if _OTHER_RANGE.fullmatch(text):
        return f"{name}: {text!r} is not {kind}; a range is written 1..8, 4..10 by 2 or 0.3..0.9 in 4"
    if _NUMBER.fullmatch(text.strip()):
        return f"{name}: {text!r} is a text and not {kind} as JSON writes it; write it so, without quotes"
    return f"{name}: {text!r} is not {kind}"


def converted(kind: type, text: str) -> Scalar:
    """A text of CSV as a value of this type; the text itself if it is none."""
    if kind is bool:
        return {"true": True, "false": False}.get(text.strip().lower(), text)
    if kind is str or not _NUMBER.fullmatch(text.strip()) or len(text) > 400:
        return text
    return int(text) if re.fullmatch(r"\s*[-+]?[0-9]+\s*", text, re.ASCII) else float(text)
