"""BatchJob: one picture of a batch, and where it was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sdcli.errors import UsageError
from sdcli.request.request import Request


@dataclass(frozen=True)
class Source:
    """A place in a job file."""

    file: str
    line: int = 0  # counted from 1; 0: the file as a whole

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True)
class Tolerance:
    """How far a picture may be from its golden where machine, torch or threads differ."""

    max: int = 2  # largest difference of a value, of 255
    psnr: float = 65.0  # decibels, at least


@dataclass(frozen=True)
class BatchJob:
    """One picture of a batch.

    `request` is what was asked for; its seed is there unless the file asks for a random one. `entry` is the name, or
    the number, of the entry of the file that the job was expanded from, and `axes` are the values that tell it from
    the entry's other jobs, as they were typed, in the written order. `out` is a template as of `-o`; None: the batch's.
    `notes` are lines for standard error: what of another tool's picture could not be taken over.
    `finds_embeddings`: the prompts may name embeddings of the user's folder; a picture that is made again has those
    that it records. `sheds_embeddings`: those that a new prompt does not name any more are left out.
    """

    request: Request
    name: str = ""
    out: str | None = None
    entry: str = ""
    axes: Mapping[str, Any] = field(default_factory=dict)
    source: Source = field(default_factory=lambda: Source("-"))
    tolerance: Tolerance = field(default_factory=Tolerance)
    notes: tuple[str, ...] = ()
    finds_embeddings: bool = True
    sheds_embeddings: bool = False


@dataclass(frozen=True)
class Fault:
    """What is wrong at one place of a job file."""

    source: Source
    message: str

    def __str__(self) -> str:
        return f"{self.source}: {self.message}"


def in_order(faults: Iterable[Fault]) -> list[Fault]:
    """The faults by file, in the order in which files were met, and by line."""
    faults = list(faults)
    place: dict[str, int] = {}
    for fault in faults:
        place.setdefault(fault.source.file, len(place))
    return sorted(faults, key=lambda fault: (place[fault.source.file], fault.source.line))


class JobFileError(UsageError):
    """Job files with faults, all of which are listed; its text is the first of them and how many follow.

    `jobs` are those without a fault of the files, in which the plan may still find some.
    """

    def __init__(self, faults: list[Fault], jobs: Sequence[BatchJob] = ()) -> None:
        self.faults, self.jobs = tuple(faults), tuple(jobs)
        more = len(faults) - 1
        super().__init__(f"{faults[0]}" + (f" (and {more} more fault{'s' * (more > 1)})" if more else ""))
