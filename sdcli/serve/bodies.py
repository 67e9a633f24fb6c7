"""Bodies: what a client sends, as checked pictures to draw. Nothing in it is ever opened as a path."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sdcli.errors import UsageError
from sdcli.request import loras
from sdcli.request.file_options import SETTING
from sdcli.request.inline_image import InlineImage
from sdcli.request.jobfile.batch_job import BatchJob
from sdcli.request.jobfile.document import Document, read_document
from sdcli.request.jobfile.keys import OPTIONS
from sdcli.request.jobfile.nodes import Faults, Node, NotReadable, node_of
from sdcli.request.jobfile.places import Place
from sdcli.request.request import MAX_SEED
from sdcli.request.weighted_file import parse_weighted_file
from sdcli.serve import attached
from sdcli.serve.budget import Budget
from sdcli.serve.names import Served, UnknownModel, path_of
from sdcli.serve.pictures import Pictures

BODY = "the body"
REFUSED = {
    "vae": "the server's owner chooses it",
    "revision": "the server's owner chooses it",
    "styles_file": "the server's own styles are used",
    "wildcards": "the server's own lists are used",
    "latents_in": "no files of the server are read",
}
"""Field -> why a client may not give it."""


@dataclass(frozen=True)
class Rules:
    """What a server allows: its models, its devices, and how much one body may ask for."""

    served: Served
    budget: Budget = field(default_factory=Budget)
    devices: tuple[str, ...] = ("auto",)


@dataclass(frozen=True)
class BodyPlace(Place):
    """A body, as the place of a job file, in which files are listed names and pictures are sent along."""

    rules: Rules | None = None
    pictures: Pictures | None = None
    unknown: list[UnknownModel] = field(default_factory=list)  # models that were asked for and are not served

    def value(self, name: str, value: str) -> Any:
        """A field's text as the program takes it; raises UsageError for what is no listed name."""
        assert self.rules is not None and self.pictures is not None
        option = OPTIONS[name]
        if name in REFUSED:
            raise UsageError(f"{name}: {REFUSED[name]}; leave it out")
        if option.picture:
            if value not in self.pictures:
                raise UsageError(f"{name}: is no picture; send it as base64")
            return self.pictures[value]
        if name == "model":
            try:
                return self.rules.served.find(value).model
            except UnknownModel as error:
                self.unknown.append(error)
                raise
        if name in attached.FIELDS:
            self._check_attached(name, value)
        if name in ("control", "ip_adapter"):
            return _with_paths(name, value)
        if name == "reference":
            return value
        if name == "lora":
            typed = loras.path_of(value)
            return path_of(name, typed) + value[len(typed) :]
        if name == "hypernet":
            typed = parse_weighted_file("--hypernet", value).path
            return path_of(name, typed) + value[len(typed) :]
        return path_of(name, value) if option.path else value

    def _check_attached(self, name: str, text: str) -> None:
        """Raise UsageError for a text that names a picture which was not sent along."""
        assert self.pictures is not None
        for each in attached.names_in(name, text):
            if each not in self.pictures.attached:
                how = "mask" if name == "region" else "image"
                raise UsageError(
                    f"{name}: {each!r:.80} is not read here; send an object with the picture in base64 as its {how}"
                )


def _with_paths(name: str, text: str) -> str:
    """`FILE:image=…:encoder=FILE` with the paths of its listed files."""
    file, *settings = SETTING.split(text)
    parts = [path_of(name, file)]
    for setting in settings:
        key, _, value = setting.partition("=")
        parts.append(f"encoder={path_of(key, value)}" if key == "encoder" else setting)
    return ":".join(parts)


class BodyError(UsageError):
    """A body with faults: `faults` are all of them, the text is the first and how many follow."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        more = len(faults) - 1
        super().__init__(faults[0] + (f" (and {more} more fault{'s' * (more > 1)})" if more else ""))


@dataclass(frozen=True)
class Body:
    """What a body asks for: the jobs, and the pictures that their options name."""

    jobs: Sequence[BatchJob]
    attached: Mapping[str, InlineImage]


def read_body(
    body: Mapping[str, Any] | Sequence[Any], rules: Rules, *, is_job_file: bool = False, texts: bool = False
) -> Body:
    """What a body asks for: the jobs are those of one job or, if `is_job_file`, of a whole job file.

    `texts`: the values of a body are texts, as in a form. Without a seed, a job gets a random one; a job file's get one
    that its text decides, as `sd batch` draws it. Raises BodyError, UsageError, ImageError and UnknownModel.
    """
    pictures = Pictures(rules.budget)
    plain = pictures.taken_out(body)
    if not is_job_file:
        plain = _with_seed(dict(plain))
    faults = Faults()
    try:
        node = node_of(plain, 0)
    except NotReadable as error:
        raise BodyError([problem for _, problem in error.problems]) from None
    place = BodyPlace(BODY, texts, max_values=rules.budget.max_pictures, rules=rules, pictures=pictures)
    shared = Document(place, {}, _own_model(rules), max_jobs=rules.budget.max_pictures)
    if is_job_file:
        entries = read_document(node, shared, _no_include, faults)
    else:
        entry = shared.entry(node, 1, faults)
        entries = [entry] if entry else []
    jobs: list[BatchJob] = []
    for entry in entries:
        _check_count(entry.said.get("count"), rules.budget)
        jobs += entry.jobs(faults)
        if len(jobs) > rules.budget.max_pictures:
            raise UsageError(
                f"more than {rules.budget.max_pictures} pictures are asked for at once; split it"
            )
    if place.unknown:
        raise place.unknown[0]
    if faults.found:
        raise BodyError([fault.message for fault in faults.in_order()])
    if not jobs:
        raise UsageError("the body has no job; write [{prompt: …}]")
    for job in jobs:
        if job.out is not None:
            raise UsageError("out: pictures are sent, and no file is written here; leave it out")
    return Body(jobs, pictures.attached)


def _with_seed(body: dict[str, Any]) -> dict[str, Any]:
    """The body of one job; where it has no seed, or asks for any, with a random one."""
    if body.get("seed") in (None, -1, "-1", "random"):
        body["seed"] = secrets.randbelow(MAX_SEED + 1 - 1024)  # with room behind it for a count
    return body


def _own_model(rules: Rules) -> Any:
    """What is filled in where a job names no model: the first that is served."""
    model = rules.served.default.model
    return lambda stated: {} if "model" in stated else {"model": model}


def _no_include(file: str) -> Node:
    raise UsageError("no files are read over HTTP; write their values into the body")


def _check_count(stated: Any, budget: Budget) -> None:
    count = stated.node.value if stated is not None else 1
    if isinstance(count, str) and count.strip().isascii() and count.strip().isdigit():
        count = int(count[:10])
    if isinstance(count, int) and count > budget.max_pictures:
        raise UsageError(
            f"count: {count} is more than the {budget.max_pictures} pictures that are drawn at once"
        )
