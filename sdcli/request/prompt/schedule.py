"""Schedule: words that change while a picture is drawn, `[from:to:when]` and `[a|b]`, in A1111's language.

    text      = (item | any of [ ] ( ) : )*      the loose characters only outside of all brackets
    item      = "(" item* ")" | "(" item* ":" item* ")" | "[" item* "]" | scheduled | alternate | plain
    scheduled = "[" (item* ":")? item* ":" number "]"
    alternate = "[" item* ("|" item*)+ "]"
    plain     = (anything but \\ [ ] ( ) : |, or \\ and one more character)+

A1111 reads this with an Earley parser. This one goes down from left to right and takes the first reading that fits;
they differ for a schedule with stray brackets right behind it, such as `[a:b:3]]]`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

_PLAIN = re.compile(r"(?:[^\\\[\]():|]|\\.)+")
_NUMBER = re.compile(r"\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*\]")
_LOOSE = "[]():"
MAX_DEPTH = 100  # brackets inside each other; deeper ones are not read


@dataclass(frozen=True)
class Group:
    """Items in round or square brackets, which stay in the text: the weights of words are read from it later."""

    opening: str
    items: Items
    closing: str


@dataclass(frozen=True)
class Scheduled:
    """`[before:after:when]`: `when` as it is typed, without blanks."""

    before: Items
    after: Items
    when: str
    typed: str  # the whole, as it is typed


@dataclass(frozen=True)
class Alternating:
    """`[a|b]`: another choice at each step."""

    choices: tuple[Items, ...]


Items = tuple["str | Group | Scheduled | Alternating", ...]


class Entry(NamedTuple):
    """A text, and the last step in which it counts; steps are counted from 1."""

    until: int
    text: str


@dataclass(frozen=True)
class Timeline:
    """The steps that a schedule's `when` is counted in.

    `earlier` are the steps of the passes before this one: in the second pass of --hires, 1.5 is its middle, and whole
    numbers go on counting. `fractions_below_1` takes every number below 1, with a point or without, as a fraction, and
    every other as a count, as A1111 did before 1.6.
    """

    steps: int
    earlier: int = 0
    fractions_below_1: bool = False

    def step(self, when: str) -> int:
        """The last step before a change at `when`; 0 or less: it is done before the first one."""
        number = float(when)
        if self.fractions_below_1:
            count = number * self.steps if number < 1 else number
        elif "." in when:
            count = (number - (1 if self.earlier else 0)) * self.steps
        else:
            count = number - self.earlier
        return int(max(min(self.steps, count), -1))


@lru_cache(maxsize=64)  # for a prompt is read several times before it is drawn
def parse(text: str) -> Items:
    """The items of a text. One that cannot be read, for a stray | or backslash, is a single plain item."""
    items, end = _text(_Source(text), 0)
    return items if end == len(text) else (text,)


def to_text(items: Items) -> str:
    """The text that `parse` reads as these items."""
    return "".join(_typed(item) for item in items)


def is_scheduled(items: Items) -> bool:
    """True if the text changes while the picture is drawn, or `when` decides what it is."""
    return any(
        isinstance(item, Scheduled | Alternating) or (isinstance(item, Group) and is_scheduled(item.items))
        for item in items
    )


def switches(items: Items) -> Iterator[Scheduled]:
    """Each `[before:after:when]` of a text, also those inside others."""
    for item in items:
        if isinstance(item, Group):
            yield from switches(item.items)
        elif isinstance(item, Alternating):
            for choice in item.choices:
                yield from switches(choice)
        elif isinstance(item, Scheduled):
            yield item
            yield from switches(item.before)
            yield from switches(item.after)


def entries(text: str, timeline: Timeline) -> tuple[Entry, ...]:
    """The texts that a text is while the steps go by, each with its last step; the last entry ends with the steps."""
    items = parse(text)
    ends = {timeline.steps, *_ends(items, timeline)}
    found = [Entry(end, _at(items, end, timeline)) for end in sorted(ends)]
    return tuple(found) if is_scheduled(items) else (Entry(timeline.steps, text),)


def active(found: Sequence[Entry], evaluation: int, from_zero: bool = False) -> str:
    """The text that counts in an evaluation of the network; evaluations are counted from 0.

    The first evaluation is step 1. A1111 (`from_zero`) takes it for step 0, so that the first entry lasts one longer
    and the last one shorter, and takes the first entry again behind the last.
    """
    step = evaluation if from_zero else evaluation + 1
    behind = found[0] if from_zero else found[-1]
    return next((entry.text for entry in found if entry.until >= step), behind.text)


# --- reading


class _Source:
    """A text that is read, and what was found at its positions: each is read once."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.depth = 0
        self.known: dict[tuple[str, int], tuple[Items, int] | None] = {}


def _text(source: _Source, start: int) -> tuple[Items, int]:
    """The items from `start`, with loose brackets and colons as plain text, and where they end."""
    found: list[str | Group | Scheduled | Alternating] = []
    position = start
    while position < len(source.text):
        items, end = _items(source, position)
        found.extend(items)
        position = end
        if position == len(source.text) or source.text[position] not in _LOOSE:
            break
        found.append(source.text[position])
        position += 1
    return tuple(found), position


def _items(source: _Source, start: int) -> tuple[Items, int]:
    """As many items as follow each other from `start`, and where they end."""
    found: list[str | Group | Scheduled | Alternating] = []
    position = start
    while position < len(source.text):
        if plain := _PLAIN.match(source.text, position):
            found.append(plain[0])
            position = plain.end()
            continue
        readers = _READERS.get(source.text[position], ())
        read = next((done for reader in readers if (done := _once(source, reader, position))), None)
        if read is None:
            break
        items, position = read
        found.extend(items)
    return tuple(found), position


Reader = Callable[[_Source, int], "tuple[Items, int] | None"]


def _once(source: _Source, reader: Reader, start: int) -> tuple[Items, int] | None:
    """What a reader finds at a position, read only once: nested brackets would be read 2^depth times otherwise."""
    key = (reader.__name__, start)
    if key not in source.known:
        if source.depth == MAX_DEPTH:
            return None
        source.depth += 1
        source.known[key] = reader(source, start)
        source.depth -= 1
    return source.known[key]


def _scheduled(source: _Source, start: int) -> tuple[Items, int] | None:
    text = source.text
    first, position = _items(source, start + 1)
    if not text.startswith(":", position):
        return None
    if number := _NUMBER.match(text, position + 1):
        typed = text[start : number.end()]
        return (Scheduled((), first, number[1], typed),), number.end()
    second, position = _items(source, position + 1)
    number = _NUMBER.match(text, position + 1) if text.startswith(":", position) else None
    if number is None:
        return None
    return (Scheduled(first, second, number[1], text[start : number.end()]),), number.end()


def _alternating(source: _Source, start: int) -> tuple[Items, int] | None:
    first, position = _items(source, start + 1)
    choices = [first]
    while source.text.startswith("|", position):
        choice, position = _items(source, position + 1)
        choices.append(choice)
    if len(choices) < 2 or not source.text.startswith("]", position):
        return None
    return (Alternating(tuple(choices)),), position + 1


def _square(source: _Source, start: int) -> tuple[Items, int] | None:
    items, position = _items(source, start + 1)
    if not source.text.startswith("]", position):
        return None
    return (Group("[", items, "]"),), position + 1


def _round(source: _Source, start: int) -> tuple[Items, int] | None:
    items, position = _items(source, start + 1)
    if source.text.startswith(":", position):
        behind, position = _items(source, position + 1)
        items = (*items, ":", *behind)
    if not source.text.startswith(")", position):
        return None
    return (Group("(", items, ")"),), position + 1


_READERS: dict[str, tuple[Reader, ...]] = {"[": (_scheduled, _alternating, _square), "(": (_round,)}


# --- writing


def _typed(item: str | Group | Scheduled | Alternating) -> str:
    if isinstance(item, Group):
        return f"{item.opening}{to_text(item.items)}{item.closing}"
    if isinstance(item, Scheduled):
        return item.typed
    if isinstance(item, Alternating):
        return f"[{'|'.join(map(to_text, item.choices))}]"
    return item


def _ends(items: Items, timeline: Timeline) -> set[int]:
    """The steps after which the text changes."""
    ends: set[int] = set()
    for item in items:
        if isinstance(item, Group):
            ends |= _ends(item.items, timeline)
        elif isinstance(item, Scheduled):
            when = timeline.step(item.when)
            ends |= {when} if when >= 1 else set()
            ends |= _ends(item.before, timeline) | _ends(item.after, timeline)
        elif isinstance(item, Alternating):
            ends |= set(range(1, timeline.steps + 1))
            for choice in item.choices:
                ends |= _ends(choice, timeline)
    return ends


def _at(items: Items, step: int, timeline: Timeline) -> str:
    """The text in a step, counted from 1."""
    parts = []
    for item in items:
        if isinstance(item, Group):
            parts.append(f"{item.opening}{_at(item.items, step, timeline)}{item.closing}")
        elif isinstance(item, Scheduled):
            chosen = item.before if step <= timeline.step(item.when) else item.after
            parts.append(_at(chosen, step, timeline))
        elif isinstance(item, Alternating):
            parts.append(_at(item.choices[(step - 1) % len(item.choices)], step, timeline))
        else:
            parts.append(item)
    return "".join(parts)
