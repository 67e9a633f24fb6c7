"""Strict JSON: a document with the line of each value, or one line of JSON lines; equal keys are faults."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from typing import Any, NoReturn

from sdcli.request.jobfile.nodes import MAX_DEPTH, TOO_DEEP, Node, NotReadable, Scalar, node_of

MAX_CHARACTERS = 32_000_000
_BLANKS = re.compile(r"[ \t\r\n]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Scalar] = {"true": True, "false": False, "null": None}
_WORD = re.compile("true|false|null")
_STRING = json.JSONDecoder()


def read_json(text: str) -> Node:
    """The document in the text; raises NotReadable with all duplicate keys, or with what ended the reading."""
    if len(text) > MAX_CHARACTERS:
        reason = f"has more than {MAX_CHARACTERS:,} characters; write so many jobs as JSON lines"
        raise NotReadable([(0, reason)])
    reader = _Reader(text)
    node = reader.value(0)
    reader.skip_blanks()
    if reader.position < len(text):
        reader.stop("there is more behind the end of the document")
    if reader.problems:
        raise NotReadable(reader.problems)
    return node


def read_json_line(text: str, line: int) -> Node:
    """The value on one line of a file of JSON lines; raises NotReadable."""
    twice: list[str] = []

    def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice.extend(name for name in found if names.count(name) > 1)
        return found

    try:
        value = json.loads(text, object_pairs_hook=without_doubles, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise NotReadable([(line, f"is no JSON: {error.msg} (column {error.colno})")]) from None
    except ValueError as error:
        raise NotReadable([(line, f"is no JSON: {error}")]) from None
    except RecursionError:
        raise NotReadable([(line, TOO_DEEP)]) from None
    if twice:
        raise NotReadable([(line, f"{name!r} is here twice; keep one") for name in twice])
    return node_of(value, line)


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


class _Reader:
    """A position in a text, and what can be read there."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.problems: list[tuple[int, str]] = []
        self.ends = [found.start() for found in re.finditer("\n", text)]

    def value(self, depth: int) -> Node:
        """The value that comes next."""
        self.skip_blanks()
        if depth > MAX_DEPTH:
            self.stop(TOO_DEEP, "")
        sign, line = self.text[self.position : self.position + 1], self.line()
        if sign == "{":
            return Node(self.mapping(depth), line)
        if sign == "[":
            return Node(self.sequence(depth), line)
        if sign == '"':
            return Node(self.string(), line)
        return Node(self.number_or_word(), line)

    def mapping(self, depth: int) -> dict[str, Node]:
        """A mapping, from its { to its }."""
        values: dict[str, Node] = {}
        while self.goes_on("{" if not values else ",", "}", bool(values)):
            self.skip_blanks()
            line = self.line()
            if not self.text.startswith('"', self.position):
                self.stop("a key in double quotes is expected here")
            key = self.string()
            if not self.takes(":"):
                self.stop(f"a colon is expected behind {key!r}")
            value = self.value(depth + 1)
            if key in values:
                self.problems.append(
                    (line, f"{key!r} is here twice, first on line {values[key].line}; keep one")
                )
            values[key] = Node(value.value, line)
        return values

    def sequence(self, depth: int) -> list[Node]:
        """A list, from its [ to its ]."""
        values: list[Node] = []
        while self.goes_on("[" if not values else ",", "]", bool(values)):
            values.append(self.value(depth + 1))
        return values

    def goes_on(self, before: str, end: str, has_values: bool) -> bool:
        """Step over the sign before a value, or over the end; True if a value follows."""
        if has_values and self.takes(end):
            return False
        if not self.takes(before):
            self.stop(f"{before} or {end} is expected here" if has_values else f"{before} is expected here")
        return has_values or not self.takes(end)

    def string(self) -> str:
        """A text in double quotes."""
        try:
            text, self.position = _STRING.raw_decode(self.text, self.position)
        except json.JSONDecodeError as error:
            self.position = min(error.pos, len(self.text))
            self.stop(error.msg.lower())
        return str(text)

    def number_or_word(self) -> Scalar:
        """A number, true, false or null."""
        if found := _WORD.match(self.text, self.position):
            self.position = found.end()
            return _WORDS[found[0]]
        number = _NUMBER.match(self.text, self.position)
        if number is None or len(number[0]) > 400:
            self.stop("a value is expected here")
        self.position = number.end()
        return float(number[0]) if number[1] or number[2] else int(number[0])

    def skip_blanks(self) -> None:
        """Go on to the next sign that is no blank."""
        found = _BLANKS.match(self.text, self.position)
        self.position = found.end() if found else self.position

    def takes(self, sign: str) -> bool:
        """Step over this sign if it comes next."""
        self.skip_blanks()
        found = self.text.startswith(sign, self.position)
        self.position += len(sign) * found
        return found

    def line(self) -> int:
        """The line of the position."""
        return bisect_right(self.ends, self.position - 1) + 1

    def stop(self, reason: str, prefix: str = "is no JSON: ") -> NoReturn:
        """Raise NotReadable with what was noted so far and this."""
        raise NotReadable([*self.problems, (self.line(), f"{prefix}{reason}")])
