"""Tables: the outcomes of an entry of a job file laid out by their axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sdcli.batch.outcome import Outcome
from sdcli.batch.reports.described import axes_of, value_text

SEPARATOR = " · "  # between the axes, or the values, that step together


@dataclass(frozen=True)
class Axis:
    """One way in which the pictures differ: a field, or several that step together, and its values in order."""

    name: str
    fields: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]  # of each of the fields

    def value_of(self, outcome: Outcome) -> tuple[str, ...]:
        """This axis's value of an outcome."""
        return _values(outcome, self.fields)


@dataclass(frozen=True)
class Table:
    """Outcomes that differ in two axes: `cells[down][across]`, each with the outcomes that are there.

    `heading` is what the outer axes are in this table.
    """

    heading: str
    across: Axis
    down: Axis | None
    cells: tuple[tuple[tuple[Outcome, ...], ...], ...]


def entries(outcomes: Sequence[Outcome]) -> list[tuple[str, list[Outcome]]]:
    """Each entry of the job file, in order, with its outcomes. Those without an entry are one together."""
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.job.entry, []).append(outcome)
    return list(found.items())


def axes(outcomes: Sequence[Outcome]) -> list[Axis]:
    """The axes in which these outcomes differ, in the written order; those that step together are one."""
    names = axes_of(outcomes)
    groups: list[list[str]] = []
    for name in names:
        if len({_values(each, (name,)) for each in outcomes}) < 2:
            continue
        same = next((group for group in groups if _step_together(outcomes, group[0], name)), None)
        groups.append([name]) if same is None else same.append(name)
    return [_axis(outcomes, tuple(group)) for group in groups]


def constants(outcomes: Sequence[Outcome]) -> Mapping[str, str]:
    """The axes that have the same value for all of these outcomes."""
    names = axes_of(outcomes)
    values = {name: {_values(each, (name,))[0] for each in outcomes} for name in names}
    return {name: next(iter(found)) for name, found in values.items() if len(found) == 1}


def tables(outcomes: Sequence[Outcome], found: Sequence[Axis]) -> list[Table]:
    """A table for each combination of the outer axes: the last axis goes across, the one before it down."""
    *outer, across = found
    down = outer.pop() if outer else None
    blocks: dict[tuple[tuple[str, ...], ...], list[Outcome]] = {}
    for outcome in outcomes:
        blocks.setdefault(tuple(axis.value_of(outcome) for axis in outer), []).append(outcome)
    ordered = sorted(
        blocks, key=lambda block: [a.values.index(value) for a, value in zip(outer, block, strict=True)]
    )
    return [_table(_heading(outer, block), blocks[block], down, across) for block in ordered]


def _table(heading: str, outcomes: Sequence[Outcome], down: Axis | None, across: Axis) -> Table:
    places: dict[tuple[tuple[str, ...], tuple[str, ...]], list[Outcome]] = {}
    for outcome in outcomes:
        row = down.value_of(outcome) if down else ()
        places.setdefault((row, across.value_of(outcome)), []).append(outcome)
    rows = down.values if down else ((),)
    cells = tuple(tuple(tuple(places.get((row, column), ())) for column in across.values) for row in rows)
    return Table(heading, across, down, cells)


def _heading(outer: Sequence[Axis], block: Sequence[tuple[str, ...]]) -> str:
    return ",  ".join(
        f"{axis.name} {SEPARATOR.join(value)}" for axis, value in zip(outer, block, strict=True)
    )


def _axis(outcomes: Sequence[Outcome], fields: tuple[str, ...]) -> Axis:
    values = dict.fromkeys(_values(outcome, fields) for outcome in outcomes)
    return Axis(SEPARATOR.join(fields), fields, tuple(values))


def _step_together(outcomes: Sequence[Outcome], one: str, other: str) -> bool:
    """True if each value of one axis comes with one value of the other, and the other way round."""
    pairs = {_values(outcome, (one, other)) for outcome in outcomes}
    return len(pairs) == len({first for first, _ in pairs}) == len({second for _, second in pairs})


def _values(outcome: Outcome, fields: Sequence[str]) -> tuple[str, ...]:
    return tuple(value_text(outcome.job.axes.get(name)) for name in fields)
