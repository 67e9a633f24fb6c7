"""Combinations: those of a job's axes, in written order with the last axis fastest, less `except`, and `also` others.

`except` and `also` act as GitHub's `exclude` and `include` of a matrix: an exception removes what all its values fit;
an addition joins its other values to each combination that has its values of the axes, and is one of its own where
there is none. Additions come after exceptions, and only to what the axes gave.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

from sdcli.errors import UsageError
from sdcli.request.jobfile.keys import DECLARED, in_our_keys
from sdcli.request.jobfile.nodes import Faults, Node, kind_of
from sdcli.request.jobfile.values import Asked, Axis, Stated, values_of

MAX_JOBS = 1_000_000

Combination = dict[str, Asked]


def product(axes: Sequence[Axis], count: int = 1, most: int = MAX_JOBS) -> list[Combination]:
    """All combinations of the axes; raises UsageError if they are more than `most` jobs, `count` for each."""
    number = math.prod(len(axis.points) for axis in axes) * count
    if number > most:
        sizes = " x ".join(str(len(axis.points)) for axis in axes) + (
            f" x count {count}" if count > 1 else ""
        )
        raise UsageError(f"{sizes} are {number:,} jobs, and at most {most:,} are taken; shorten an axis")
    pairs = [[tuple(zip(axis.names, point, strict=True)) for point in axis.points] for axis in axes]
    return [dict(itertools.chain.from_iterable(each)) for each in itertools.product(*pairs)]


def zipped(stated: Stated, faults: Faults) -> list[Axis]:
    """The axes of `zip`: a mapping of fields to equally long lists, or a list of such mappings."""
    node, place = stated
    groups = node.value if isinstance(node.value, list) else [node]
    axes = []
    for group in groups:
        if not isinstance(group.value, dict) or not group.value:
            message = f"zip: {kind_of(group.value)} is not a mapping of fields to lists; write zip: {{cfg: [4, 7], …}}"
            faults.add(place.source(group), message)
            continue
        before = faults.number
        keys = in_our_keys(group.value, (), place.file, faults)
        found = {name: values_of(name, Stated(each, place), faults) for name, each in keys.items()}
        points = {name: _points(asked) for name, asked in found.items() if asked}
        lengths = {name: len(values) for name, values in points.items()}
        if len(set(lengths.values())) > 1:
            sizes = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            faults.add(place.source(group), f"zip: {sizes}; give them equally many values")
        elif faults.number == before:
            steps = zip(*points.values(), strict=True)
            axes.append(Axis(tuple(points), [tuple(itertools.chain.from_iterable(each)) for each in steps]))
    return axes


def _points(asked: Asked | Axis) -> Sequence[tuple[Asked, ...]]:
    """The values of a field at each step; one value is one step."""
    return [(asked,)] if isinstance(asked, Asked) else asked.points


def excepted(
    combinations: list[Combination], stated: Stated, names: Iterable[str], faults: Faults
) -> list[Combination]:
    """The combinations that fit no exception; one that fits none of them is a fault."""
    for node, exception in _entries("except", stated, faults):
        wanted = {name: _choices(name, each, stated, faults) for name, each in exception.items()}
        strange = [name for name in wanted if name not in names]
        if strange:
            reason = f"except: {strange[0]} is no axis of this job, which has {', '.join(names) or 'none'}"
            faults.add(stated.place.source(node), f"{reason}; take it out")
            continue
        kept = [each for each in combinations if not all(each[name].value in wanted[name] for name in wanted)]
        if len(kept) == len(combinations):
            faults.add(
                stated.place.source(node), "except: fits no combination; correct its values or take it out"
            )
        combinations = kept
    return combinations


def _choices(name: str, node: Node, stated: Stated, faults: Faults) -> list[object]:
    """The values of a field that an exception is for."""
    found = values_of(name, Stated(node, stated.place), faults)
    if isinstance(found, Axis):
        return [point[0].value for point in found.points]
    return [found.value] if found else []


def with_additions(
    combinations: list[Combination], stated: Stated, names: Iterable[str], faults: Faults
) -> list[Combination]:
    """The combinations with the additions of `also` joined to them or behind them."""
    own = []
    for node, addition in _entries("also", stated, faults):
        found = {name: values_of(name, Stated(each, stated.place), faults) for name, each in addition.items()}
        values: Combination = {}
        for name, asked in found.items():
            if isinstance(asked, Axis):
                faults.add(
                    stated.place.source(node), f"also: {name} has several values; write an entry for each"
                )
            elif asked:
                values[name] = asked
        on_axes = {name: asked.value for name, asked in values.items() if name in names}
        joined = [each for each in combinations if all(each[name].value == on_axes[name] for name in on_axes)]
        for each in joined:
            each.update({name: asked for name, asked in values.items() if name not in names})
        if not joined:
            own.append(values)
    return combinations + own


def _entries(key: str, stated: Stated, faults: Faults) -> list[tuple[Node, Mapping[str, Node]]]:
    """The mappings under `except` or `also`, by our names of their keys."""
    node, place = stated
    if not isinstance(node.value, list):
        faults.add(
            place.source(node),
            f"{key}: {kind_of(node.value)} is not a list of mappings; write {key}: [{{cfg: 7}}]",
        )
        return []
    found: list[tuple[Node, Mapping[str, Node]]] = []
    for each in node.value:
        if not isinstance(each.value, dict) or not each.value:
            faults.add(place.source(each), f"{key}: {kind_of(each.value)} is not a mapping; write {{cfg: 7}}")
            continue
        keys = in_our_keys(each.value, (), place.file, faults)
        found.append((each, {name: value for name, value in keys.items() if name in DECLARED}))
    return found
