"""Dispatch: hands the tasks of a batch to workers of any kind, and hands on what they answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from sdcli.batch.executor import Drawn, Event, Failed, Lost, Task
from sdcli.batch.workers.task_queue import TaskQueue
from sdcli.errors import SdError
from sdcli.request.request import Loading

MAX_FAILED_STARTS = 3
"""How many workers in a row may end before they draw anything; then none is started in place of a lost one."""


class NoWorkers(SdError):
    """No worker is left, and none can be started."""

    kind = "lost"


@dataclass(frozen=True)
class Ready:
    """A worker waits for a task, and holds no model yet."""

    worker: int


@dataclass(frozen=True)
class Answered:
    """A worker answered what became of its task."""

    worker: int
    answer: Drawn | Failed


@dataclass(frozen=True)
class Gone:
    """A worker was lost; with it what it was drawing.

    `may_return`: it is asked again by its kind, and another Ready of it may come. `is_unfit`: it refused, for its
    machine differs from the driver's; its task is not to blame, and none is started in its place.
    """

    worker: int
    reason: str
    may_return: bool = False
    is_unfit: bool = False


Report = Ready | Answered | Gone


class Workers(Protocol):
    """Workers of one kind, by their numbers: processes, or actors on other machines."""

    wanted: int  # how many are to draw at the same time
    patience: float  # seconds without any worker after which nothing more is expected

    def start(self, worker: int) -> None:
        """Begin to start a worker; a Ready or Gone follows."""
        ...

    def give(self, worker: int, task: Task) -> None:
        """Let a worker draw a task; Answered or Gone follows."""
        ...

    def wait(self) -> list[Report]:
        """What happened since; waits for something, but about a second at most."""
        ...

    def stop(self) -> None:
        """End all workers at once, and wait until they have ended."""
        ...


def dispatch(workers: Workers, tasks: Sequence[Task], started: Callable[[int], None]) -> Iterator[Event]:
    """Draw the tasks; closing the iterator stops the workers.

    `started` is called again with the number of a task that is drawn again because its worker was lost. Raises
    NoWorkers if tasks are left and no worker is.
    """
    dispatcher = _Dispatcher(workers, tasks, started)
    try:
        yield from dispatcher.run()
    finally:
        workers.stop()


class _Dispatcher:
    """Where each worker of one run is."""

    def __init__(self, workers: Workers, tasks: Sequence[Task], started: Callable[[int], None]) -> None:
        self.workers = workers
        self.queue = TaskQueue(tasks)
        self.started = started
        self.starting: set[int] = set()
        self.returning: set[int] = set()  # lost, but may return
        self.idle: dict[int, Loading | None] = {}  # with the model that each holds
        self.drawing: dict[int, Task] = {}
        self.next_worker = 1
        self.failed_starts = 0
        self.reason = ""  # why the last worker was lost
        self.since = time.monotonic()  # when a worker was last there

    def run(self) -> Iterator[Event]:
        self._start_missing()
        while len(self.queue) or self.drawing:
            events = [event for report in self.workers.wait() for event in self._take_in(report)]
            self._hand_out()  # first, so that the workers draw while the driver writes
            self._start_missing()
            yield from events
            self._check_someone_is_there()

    def _take_in(self, report: Report) -> Iterator[Event]:
        worker = report.worker
        if isinstance(report, Ready):
            self.starting.discard(worker)
            self.returning.discard(worker)
            self.idle[worker] = None
        elif isinstance(report, Answered):
            task = self.drawing.pop(worker)
            self.idle[worker] = task.request.loading
            self.failed_starts = 0
            yield report.answer
        else:
            yield from self._lose(report)

    def _lose(self, gone: Gone) -> Iterator[Event]:
        self.reason = gone.reason
        if gone.is_unfit:
            self.workers.wanted -= 1
        elif gone.worker in self.starting:
            self.failed_starts += 1
        self.idle.pop(gone.worker, None)
        self.starting.discard(gone.worker)
        self.returning.discard(gone.worker)
        if gone.may_return:
            self.returning.add(gone.worker)
        task = self.drawing.pop(gone.worker, None)
        yield Lost(gone.reason, (task.number,) if task else ())
        if task is not None and gone.is_unfit:
            self.queue.put_back(task)
        elif task is not None and (failed := self.queue.lose(task, gone.reason)) is not None:
            yield failed

    def _hand_out(self) -> None:
        for worker, held in list(self.idle.items()):
            task = self.queue.take(held)
            if task is None:
                return
            del self.idle[worker]
            self.drawing[worker] = task
            self.started(task.number)
            self.workers.give(worker, task)

    def _start_missing(self) -> None:
        """Start workers while there are fewer than are wanted, and than there are tasks for."""
        free = len(self.idle) + len(self.starting) + len(self.returning)
        missing = min(self.workers.wanted - free - len(self.drawing), len(self.queue) - free)
        if self.failed_starts >= MAX_FAILED_STARTS:
            return
        for _ in range(missing):
            self.starting.add(self.next_worker)
            self.workers.start(self.next_worker)
            self.next_worker += 1

    def _check_someone_is_there(self) -> None:
        """Raise NoWorkers if no worker is left, or none came for too long."""
        now = time.monotonic()
        if self.drawing or self.idle:
            self.since = now
            return
        may_come = self.starting | self.returning
        if len(self.queue) and (not may_come or now - self.since > self.workers.patience):
            waited = f"none came within {self.workers.patience:.0f} seconds"
            left = len(self.queue)
            raise NoWorkers(
                f"{left} picture{'s are' if left > 1 else ' is'} left, and no worker: {self.reason or waited}; "
                "mend that and run the batch again, which goes on where it ended"
            )
