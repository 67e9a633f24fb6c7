"""Nodes: what a job file says, with the line of each value, whichever format it is written in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sdcli.errors import UsageError, naming_options
from sdcli.request.jobfile.batch_job import Fault, Source, in_order

Scalar = str | int | float | bool | None
MAX_DEPTH = 20
"""How deeply lists and mappings may be nested in a job file."""


@dataclass(frozen=True, slots=True)
class Node:
    """A value and the line that it begins on; in a mapping, the line of its key. Lines are counted from 1."""

    value: Scalar | list[Node] | dict[str, Node]
    line: int

    def plain(self) -> Any:
        """The value without lines, as JSON's types."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        return [node.plain() for node in self.value] if isinstance(self.value, list) else self.value


def node_of(value: Any, line: int, depth: int = 0) -> Node:
    """A plain value, all of which is on one line; raises NotReadable if it is nested too deeply."""
    if depth > MAX_DEPTH:
        raise NotReadable([(line, TOO_DEEP)])
    if isinstance(value, Mapping):
        return Node({key: node_of(each, line, depth + 1) for key, each in value.items()}, line)
    if isinstance(value, list | tuple):
        return Node([node_of(each, line, depth + 1) for each in value], line)
    return Node(value, line)


TOO_DEEP = f"is nested more than {MAX_DEPTH} deep; a job file needs no more than 5"


class NotReadable(Exception):
    """A text that is not what its format asks for: (line, what is wrong), at least one."""

    def __init__(self, problems: list[tuple[int, str]]) -> None:
        self.problems = problems
        super().__init__(problems)


class Faults:
    """The faults of a set of job files, each once. `number` grows with each that is met, also with one met before."""

    def __init__(self) -> None:
        self.found: dict[Fault, None] = {}
        self.number = 0

    def add(self, source: Source, message: str | Exception) -> None:
        """Note what is wrong at a place; an exception's text names fields, not options of the command line."""
        if not source.file.isprintable():
            source = Source(one_line(source.file), source.line)
        with naming_options(False):
            fault = Fault(source, one_line(str(message)))
        self.found[fault] = None
        self.number += 1

    def in_order(self) -> list[Fault]:
        """The faults by file, in the order in which files were met, and by line."""
        return in_order(self.found)


def one_line(text: str) -> str:
    """The text on one line of at most 300 characters that any terminal can show."""
    text = " ".join(text.encode("utf-8", "backslashreplace").decode("utf-8").split())
    text = "".join(sign if sign.isprintable() else "�" for sign in text)
    return text if len(text) <= 300 else f"{text[:299]}…"


def kind_of(value: object) -> str:
    """What a value is called in a message."""
    kinds = {dict: "a mapping", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def text_in(node: Node, what: str) -> str:
    """The text that a node holds; raises UsageError if it is something else, or empty."""
    if isinstance(node.value, str) and node.value.strip():
        return node.value
    if isinstance(node.value, int | float) and not isinstance(node.value, bool):
        raise UsageError(f"{what}: {node.value} is not a text; put it in quotes")
    found = "it is empty" if node.value == "" else f"{kind_of(node.value)} is not a text"
    raise UsageError(f"{what}: {found}; give a text")
