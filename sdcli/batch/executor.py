"""Executor: draws the tasks of a batch somewhere; the batch itself writes, journals and reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sdcli.batch.outcome import Failure
from sdcli.errors import UsageError
from sdcli.request.request import Request


@dataclass(frozen=True)
class Task:
    """One picture to draw. It can be pickled. `number` is its job's place in the plan."""

    number: int
    request: Request  # with a seed; its networks, embeddings and styles are found
    suffix: str = ".png"
    quality: int | None = None
    metadata: bool = True


@dataclass(frozen=True)
class Drawn:
    """A picture that was drawn. `encode` makes the bytes of its file, if they are not made yet."""

    number: int
    request: Request  # as the picture records it
    facts: Mapping[str, Any]
    seconds: Mapping[str, float]
    encode: Callable[[], bytes]


@dataclass(frozen=True)
class Failed:
    """A task that failed; the next ones go on."""

    number: int
    failure: Failure
    trace: str = ""  # the traceback of a bug


@dataclass(frozen=True)
class Lost:
    """A worker that was lost, or a machine; what it was drawing is drawn by another."""

    message: str
    numbers: tuple[int, ...] = field(default_factory=tuple)


Event = Drawn | Failed | Lost


def parse_count(name: str, option: str, least: int, most: int, of: str) -> int | None:
    """The number behind `--on NAME:`, None if there is none; raises UsageError for what is no number of `of`."""
    if option and not (option.isascii() and option.isdigit() and least <= int(option) <= most):
        raise UsageError(
            f"--on {name}:{option}: is no number of {of} from {least} to {most}; try {name}:{2 * least}"
        )
    return int(option) if option else None


class Executor(Protocol):
    """Draws tasks, in their order as far as it can; each ends as Drawn or Failed exactly once."""

    def run(self, tasks: Sequence[Task], started: Callable[[int], None]) -> Iterator[Event]:
        """Draw the tasks; `started` is called with a task's number when its drawing begins.

        Closing the iterator stops what is being drawn. Raises SdError if nothing can be drawn there at all.
        """
        ...
