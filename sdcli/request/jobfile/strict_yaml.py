"""Strict YAML: YAML as a notation for JSON's values, with the line of each.

A plain scalar is a number, true, false or null where JSON would read it so, and else a text: `1:8`, `no`, `007` and
`2026-01-01` are texts, which PyYAML's own loader turns into 68, false, 7 and a date. Two equal keys, tags, merge keys
and a second document are faults. Aliases are read, as far as they do not multiply.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from sdcli.request.jobfile.nodes import MAX_DEPTH, TOO_DEEP, Node, NotReadable, Scalar

if TYPE_CHECKING:
    import yaml

MAX_CHARACTERS = 4_000_000
MAX_ALIASED = 100_000
"""How many values all aliases of a file may stand for."""

_CONSTANTS: dict[str, Scalar] = {"null": None, "": None, "true": True, "false": False}
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,399})")
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]{0,399})(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")


def read_yaml(text: str) -> Node:
    """The one document in the text; raises NotReadable with all duplicate keys, or with what ended the reading."""
    import yaml

    if len(text) > MAX_CHARACTERS:
        reason = f"has more than {MAX_CHARACTERS:,} characters; write so many jobs as JSON lines"
        raise NotReadable([(0, reason)])
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        builder = _Builder(yaml.parse(text, Loader=loader))
        node = builder.document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise NotReadable([(mark.line + 1 if mark else 0, f"is no YAML: {_reason(error)}")]) from None
    except yaml.reader.ReaderError as error:
        position = error.position if isinstance(error.position, int) else 0
        line = text.count("\n", 0, position) + 1
        raise NotReadable([(line, "holds a character that YAML does not allow; take it out")]) from None
    except UnicodeEncodeError:
        raise NotReadable([(0, "holds half a character (a lone surrogate); take it out")]) from None
    if builder.problems:
        raise NotReadable(builder.problems)
    return node


def _reason(error: yaml.MarkedYAMLError) -> str:
    parts = [error.context, error.problem]
    return ", ".join(part for part in parts if part)


class _Builder:
    """Builds nodes of the events of a document."""

    def __init__(self, events: Iterator[Any]) -> None:
        self.events = events
        self.problems: list[tuple[int, str]] = []
        self.anchors: dict[str, tuple[Node, int] | None] = {}
        self.built = 0
        self.aliased = 0

    def document(self) -> Node:
        """The node of the one document that there is; an empty file holds null."""
        import yaml

        node, documents = Node(None, 1), 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self.stop(event, "begins a second document; write one job file for each")
                node = self.node(next(self.events), 0)
        return node

    def node(self, event: Any, depth: int) -> Node:
        """The node that begins with an event."""
        import yaml

        if isinstance(event, yaml.AliasEvent):
            return self.alias(event)
        if depth > MAX_DEPTH:
            self.stop(event, TOO_DEEP)
        if event.tag is not None:
            self.problem(event, f"has the tag {event.tag}; a job file has none, take it out")
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        before = self.built
        self.built += 1
        if isinstance(event, yaml.MappingStartEvent):
            node = self.mapping(event, depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self.sequence(event, depth)
        else:
            value = scalar(event.value) if not event.style else event.value
            node = Node(value, event.start_mark.line + 1)
        if event.anchor is not None:
            self.anchors[event.anchor] = (node, self.built - before)
        return node

    def mapping(self, start: Any, depth: int) -> Node:
        """A mapping; a key that comes twice is a problem, and so is one that is no text."""
        import yaml

        values: dict[str, Node] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            if not isinstance(event, yaml.ScalarEvent):
                self.stop(event, "has a list, a mapping or an alias as a key; a key is a text")
            if event.value == "<<" and not event.style:
                self.problem(event, "a merge key << is not read; put what jobs share into defaults")
            value = self.node(next(self.events), depth + 1)
            if event.value in values:
                first = values[event.value].line
                self.problem(event, f"{event.value!r} is here twice, first on line {first}; keep one")
            values[event.value] = Node(value.value, line)
        return Node(values, start.start_mark.line + 1)

    def sequence(self, start: Any, depth: int) -> Node:
        """A list."""
        import yaml

        values = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            values.append(self.node(event, depth + 1))
        return Node(values, start.start_mark.line + 1)

    def alias(self, event: Any) -> Node:
        """What an alias stands for, which is counted once more."""
        found = self.anchors.get(event.anchor)
        if found is None:
            is_inside = event.anchor in self.anchors
            reason = "stands inside of what it names" if is_inside else "is defined nowhere above"
            self.stop(event, f"the alias *{event.anchor} {reason}; correct it")
        node, size = found
        self.built += size
        self.aliased += size
        if self.aliased > MAX_ALIASED:
            self.stop(event, f"the aliases stand for more than {MAX_ALIASED:,} values; use ranges and lists")
        return node

    def problem(self, event: Any, reason: str) -> None:
        """Note what is wrong, and go on."""
        self.problems.append((event.start_mark.line + 1, reason))

    def stop(self, event: Any, reason: str) -> NoReturn:
        """Raise NotReadable with what was noted so far and this."""
        self.problem(event, reason)
        raise NotReadable(self.problems)


def scalar(text: str) -> Scalar:
    """What a plain scalar stands for: a number, true, false or null as JSON writes them, and else the text."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
