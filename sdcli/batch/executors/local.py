"""The local executor: one picture after another, in this process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from sdcli.batch.executor import Event, Task
from sdcli.batch.worker import draw_task
from sdcli.checkpoints import checkpoint
from sdcli.errors import SdError, UsageError
from sdcli.models.cache import ModelCache
from sdcli.request.request import Loading

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
        for task, following in zip(tasks, [*tasks[1:], None], strict=True):
            started(task.number)
            if following is not None and following.request.loading != task.request.loading:
                _read_ahead(following.request.loading)
            yield draw_task(task, self.models, self.watch)


def _read_ahead(loading: Loading) -> None:
    """Let the system read a model's files into its cache while the last picture of another model is drawn."""
    if not hasattr(os, "posix_fadvise"):
        return
    with contextlib.suppress(SdError, OSError):  # the model's own task tells what is wrong
        for path in checkpoint.read_for(loading).paths:
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
