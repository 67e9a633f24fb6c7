"""Document: a job file in our schema: version, include, vars, defaults and jobs, or the jobs alone."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sdcli.errors import UsageError
from sdcli.registry import nearest
from sdcli.request.fields import MAX_TEXT
from sdcli.request.jobfile.batch_job import Source
from sdcli.request.jobfile.combinations import MAX_JOBS
from sdcli.request.jobfile.entry import Entry
from sdcli.request.jobfile.keys import COMBINING, SHARED, SIZE, TOP, in_our_keys, is_key, our_key
from sdcli.request.jobfile.nodes import Faults, Node, NotReadable, kind_of, text_in
from sdcli.request.jobfile.places import Place
from sdcli.request.jobfile.requests import RequestBuilder, Settings, no_settings
from sdcli.request.jobfile.values import Stated

VERSION = 1
MAX_INCLUDED = 100
_VARIABLE = re.compile(r"(?<!\$)\$([A-Za-z_][A-Za-z0-9_]*)")

ReadTree = Callable[[str], Node]
"""A file -> what it says; raises UsageError and NotReadable."""


@dataclass(frozen=True)
class Document:
    """What the jobs of a file share. `given` are fields that were typed for the whole batch, `settings` the user's.

    `has_variables`: the file is a mapping with jobs, so that $name in a text is a variable and not words.
    """

    place: Place
    given: Mapping[str, Any]
    settings: Settings = no_settings
    has_variables: bool = False
    variables: Mapping[str, Node] = field(default_factory=dict)
    defaults: Mapping[str, Stated] = field(default_factory=dict)
    build: RequestBuilder = field(default_factory=RequestBuilder)
    max_jobs: int = MAX_JOBS  # of one entry

    def entry(self, node: Node, number: int, faults: Faults) -> Entry | None:
        """One job with the defaults; a text is a prompt. None if it is neither."""
        if isinstance(node.value, str):
            node = Node({"prompt": node}, node.line)
        if not isinstance(node.value, dict):
            message = f"a job is a mapping of fields, and this is {kind_of(node.value)}; write {{prompt: …}}"
            faults.add(self.place.source(node), message)
            return None
        values = {key: self.filled(each, faults) for key, each in node.value.items()}
        own = in_our_keys(values, (*SHARED, *COMBINING), self.place.file, faults)
        covered = {*own, *_zipped_names(own.get("zip")), *_zipped_names(own.get(SIZE))}
        kept = {name: each for name, each in self.defaults.items() if name not in covered}
        said = {**kept, **{name: Stated(each, self.place) for name, each in own.items()}}
        return Entry(
            said, self.place.source(node), number, self.given, self.settings, self.build, self.max_jobs
        )

    def entries(self, nodes: Sequence[Node], faults: Faults) -> list[Entry]:
        """The jobs of a list."""
        found = [self.entry(node, number, faults) for number, node in enumerate(nodes, 1)]
        return [each for each in found if each is not None]

    def filled(self, node: Node, faults: Faults) -> Node:
        """A node with the variables in its texts; a text that is nothing but a variable takes over its value."""
        if not self.has_variables:
            return node
        if isinstance(node.value, dict):
            return Node({key: self.filled(each, faults) for key, each in node.value.items()}, node.line)
        if isinstance(node.value, list):
            return Node([self.filled(each, faults) for each in node.value], node.line)
        if not isinstance(node.value, str) or "$" not in node.value:
            return node
        whole = _VARIABLE.fullmatch(node.value)
        if whole and whole[1] in self.variables:
            return Node(self.variables[whole[1]].value, node.line)
        if self._length(node.value) > MAX_TEXT:
            faults.add(
                self.place.source(node),
                f"its variables are longer than {MAX_TEXT:,} characters; shorten them",
            )
            return node
        text = _VARIABLE.sub(lambda found: self._text(found, node, faults), node.value)
        return Node(text, node.line)

    def _length(self, text: str) -> int:
        """How many characters the variables in a text stand for."""
        known = (self.variables[name].value for name in _VARIABLE.findall(text) if name in self.variables)
        return sum(len(value) for value in known if isinstance(value, str))

    def _text(self, found: re.Match[str], node: Node, faults: Faults) -> str:
        known = self.variables.get(found[1])
        if known is None:
            hint = (
                nearest(found[1], list(self.variables))
                if self.variables
                else f"write vars: {{{found[1]}: …}}"
            )
            message = f"{found[0]}: no variable has this name; {hint}"
            faults.add(self.place.source(node), message)
            return found[0]
        if isinstance(known.value, dict | list):
            faults.add(
                self.place.source(node), f"{found[0]} is {kind_of(known.value)}, which fits into no text"
            )
            return found[0]
        return known.value if isinstance(known.value, str) else str(known.plain())


def _zipped_names(node: Node | None) -> Iterator[str]:
    """Our names of the fields in `zip`; of what is wrong in it, none."""
    groups = [] if node is None else node.value if isinstance(node.value, list) else [node]
    for group in groups:
        for word in group.value if isinstance(group.value, dict) else ():
            with contextlib.suppress(UsageError):
                yield our_key(word)


def read_document(node: Node, shared: Document, read_tree: ReadTree, faults: Faults) -> list[Entry]:
    """The entries of a job file: a mapping with `jobs`, a list of jobs, or one job."""
    if isinstance(node.value, list):
        return shared.entries(node.value, faults)
    if not isinstance(node.value, dict):
        message = f"a job file is a mapping or a list of jobs, and this is {kind_of(node.value)}"
        faults.add(shared.place.source(node), f"{message}; see docs/batch.md")
        return []
    if not node.value.keys() & set(TOP) and not _is_misspelt(node.value):
        return shared.entries([node], faults)
    for word, each in node.value.items():
        if word not in TOP:
            faults.add(shared.place.source(each), f"{word}: a job file has no such key; {nearest(word, TOP)}")
    shared = replace(shared, has_variables=True)
    shared = _Includes(read_tree, faults).read(node.value, shared, (shared.place.file,))
    defaults = {
        name: Stated(shared.filled(each.node, faults), each.place) for name, each in shared.defaults.items()
    }
    shared = replace(shared, defaults=defaults)
    jobs = node.value.get("jobs")
    if jobs is None and not node.value.keys() <= set(TOP):
        return []  # one of the strange keys is the misspelt jobs
    if jobs is None or not isinstance(jobs.value, list) or not jobs.value:
        reason = "has no jobs" if jobs is None else "jobs is not a list with a job in it"
        faults.add(shared.place.source(jobs or node), f"{reason}; write jobs: [{{prompt: …}}]")
        return []
    return shared.entries(jobs.value, faults)


def _is_misspelt(values: Mapping[str, Node]) -> bool:
    """True for a job file without a key that is right: none is a job's, and one is nearly a file's."""
    return not any(map(is_key, values)) and any("did you mean" in nearest(word, TOP) for word in values)


class _Includes:
    """Reads vars and defaults of a file and of those that it includes; a file's own come after the included."""

    def __init__(self, read_tree: ReadTree, faults: Faults) -> None:
        self.read_tree, self.faults = read_tree, faults
        self.files = 0

    def read(self, values: Mapping[str, Node], shared: Document, chain: tuple[str, ...]) -> Document:
        """What a file shares, `chain` being the files that lead to it."""
        self._check_version(values, shared.place)
        for node in self._listed(values.get("include"), shared.place):
            shared = self._included(node, shared, chain)
        variables = self._mapping(values.get("vars"), "vars", shared.place)
        for name, node in variables.items():
            if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
                message = f"vars: {name!r} is no name; it has letters, digits and _"
                self.faults.add(shared.place.source(node), message)
        defaults = self._mapping(values.get("defaults"), "defaults", shared.place)
        ours = in_our_keys(defaults, SHARED, shared.place.file, self.faults)
        stated = {name: Stated(node, shared.place) for name, node in ours.items()}
        kept = {name: each for name, each in shared.defaults.items() if name not in stated}
        return replace(shared, variables={**shared.variables, **variables}, defaults={**kept, **stated})

    def _included(self, node: Node, shared: Document, chain: tuple[str, ...]) -> Document:
        """What is shared, with that of an included file."""
        place, source = shared.place, shared.place.source(node)
        try:
            file = os.path.normpath(place.path(text_in(node, "include")))
            self.files += 1
            if file in map(os.path.normpath, chain):
                through = ", ".join(chain[1:]) or "no other"
                raise UsageError(f"include: {file} includes itself, through {through}; take it out")
            if self.files > MAX_INCLUDED:
                raise UsageError(f"include: more than {MAX_INCLUDED} files are included; put them together")
            tree = self._tree(file, source)
        except UsageError as error:
            self.faults.add(source, error)
            return shared
        inner = Place(file)
        if tree is None or not isinstance(tree.value, dict):
            if tree is not None:
                self.faults.add(Source(file), "an included file is a mapping with vars and defaults")
            return shared
        for word, each in tree.value.items():
            if word not in ("version", "include", "vars", "defaults"):
                message = f"{word}: an included file has version, include, vars and defaults; take it out"
                self.faults.add(inner.source(each), message)
        return replace(self.read(tree.value, replace(shared, place=inner), (*chain, file)), place=place)

    def _tree(self, file: str, source: Source) -> Node | None:
        try:
            return self.read_tree(file)
        except NotReadable as error:
            for line, problem in error.problems:
                self.faults.add(Source(file, line), problem)
        except UsageError as error:
            self.faults.add(source, f"include: {file}: {error}")
        return None

    def _check_version(self, values: Mapping[str, Node], place: Place) -> None:
        version = values.get("version")
        if version is not None and (version.value != VERSION or isinstance(version.value, bool)):
            message = f"version: {version.plain()!r} is not {VERSION}, which this sd reads; write version: {VERSION}"
            self.faults.add(place.source(version), message)

    def _listed(self, node: Node | None, place: Place) -> list[Node]:
        """The files of `include`: a list, or one text."""
        if node is None or node.value is None:
            return []
        return node.value if isinstance(node.value, list) else [node]

    def _mapping(self, node: Node | None, what: str, place: Place) -> Mapping[str, Node]:
        if node is None or node.value is None:
            return {}
        if isinstance(node.value, dict):
            return node.value
        self.faults.add(
            place.source(node), f"{what}: {kind_of(node.value)} is not a mapping; write {what}: {{…}}"
        )
        return {}
