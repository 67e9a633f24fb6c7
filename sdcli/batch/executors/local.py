"""The local executor: one picture after another, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from sdcli.batch.executor import Event, Task
from sdcli.batch.worker import draw_task
from sdcli.errors import UsageError
from sdcli.models.cache import ModelCache

if TYPE_CHECKING:
    from sdcli.result import Watcher


def local(option: str = "", watch: Watcher = iter) -> Local:
    """Draw one picture after another in this process, which is what a batch does if it is not told otherwise."""
    if option:
        raise UsageError(f"--on local:{option}: local takes no option; leave it out")
    return Local(watch)


class Local:
    """Draws tasks in this process, with one model in memory at a time."""

    def __init__(self, watch: Watcher) -> None:
        self.models = ModelCache()
        self.watch = watch

    def run(self, tasks: Sequence[Task], started: Callable[[int], None]) -> Iterator[Event]:
        """Draw the tasks in their order."""
        for task in tasks:
            started(task.number)
            yield draw_task(task, self.models, self.watch)
