"""The batched executor: several pictures at once on a GPU, in joint calls of the network."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sdcli.batch.executor import Drawn, Event, Failed, Task, parse_count
from sdcli.batch.worker import draw_task
from sdcli.errors import SdError, UsageError
from sdcli.machine import has_gpu
from sdcli.models.cache import ModelCache
from sdcli.request.request import Loading

if TYPE_CHECKING:
    from sdcli.models.joint_calls import JointCalls
    from sdcli.models.model import Model

DEFAULT, MOST = 4, 64  # pictures at once


def batched(option: str = "") -> Batched:
    """Draw several pictures at once on a GPU, which are one call of the network at each step: `batched:4`.

    A picture that is not the same bytes as alone says so in its metadata. Jobs that alter the network, by a LoRA for
    instance, are drawn alone.
    """
    return Batched(parse_count("batched", option, 2, MOST, "pictures") or DEFAULT)


class Batched:
    """Draws up to `count` tasks at once that follow each other and have the same model."""

    def __init__(self, count: int, on_cpu: bool = False) -> None:
        self.models = ModelCache()
        self.count, self.on_cpu = count, on_cpu

    def run(self, tasks: Sequence[Task], started: Callable[[int], None]) -> Iterator[Event]:
        """Draw the tasks in their order. Raises UsageError on a CPU, where it gains nothing."""
        if not (self.on_cpu or has_gpu()) or any(
            task.request.device == "cpu" for task in tasks if not self.on_cpu
        ):
            raise self._refusal()
        for group in self._groups(tasks):
            for task in group:
                started(task.number)
            found = self._drawn_together(group)
            for task in group:
                yield found.get(task.number) or draw_task(task, self.models)

    def _groups(self, tasks: Sequence[Task]) -> Iterator[Sequence[Task]]:
        group: list[Task] = []
        for task in tasks:
            if group and (len(group) == self.count or group[0].request.loading != task.request.loading):
                yield group
                group = []
            group.append(task)
        if group:
            yield group

    def _drawn_together(self, group: Sequence[Task]) -> dict[int, Drawn | Failed]:
        """Those of the tasks that can be drawn together, by their numbers."""
        try:
            with self.models.use(group[0].request.loading) as model:
                is_refused = model.placement.device.type == "cpu" and not self.on_cpu
                together = [task for task in group if _is_plain(task, model)]
                found = _draw(together, model) if len(together) > 1 and not is_refused else {}
        except SdError:
            return {}  # drawn alone, each task tells what is wrong
        if is_refused:
            raise self._refusal()
        if any(isinstance(each, Failed) and each.failure.kind == "memory" for each in found.values()):
            self.models.unload()
        return found

    def _refusal(self) -> UsageError:
        return UsageError(f"--on batched:{self.count} is for a GPU, and gains nothing on a CPU; leave it out")


def _is_plain(task: Task, model: Model) -> bool:
    """True if nothing that a task asks for alters the networks, which other tasks use at the same time."""
    from sdcli.checkpoints.recorded import recorded
    from sdcli.pipeline.engine_limits import alterations

    if model.by_engine is not None or model.networks.how != "all at once":
        return False
    try:
        job = model.with_defaults(recorded(task.request))
    except SdError:
        return False
    return not alterations(task.request.networks, job)


def _draw(tasks: Sequence[Task], model: Model) -> dict[int, Drawn | Failed]:
    """Draw each task in a thread of its own, whose calls of the U-Net are joined."""
    from sdcli.models.joint_calls import JointCalls, Stopped

    calls, found = JointCalls(model, len(tasks)), {}
    models = _Lent(model, calls)

    def draw(task: Task) -> None:
        with contextlib.suppress(Stopped), calls.taking_part():
            found[task.number] = draw_task(task, models)

    threads = [threading.Thread(target=draw, args=(task,), daemon=True) for task in tasks]
    try:
        with calls.separate_rows():
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.2)  # in parts, so that Ctrl-C is heard
    except BaseException:
        calls.stop()
        raise
    return found


class _Lent(ModelCache):
    """One loaded model for several threads at once."""

    def __init__(self, model: Model, calls: JointCalls) -> None:
        super().__init__()
        self._model, self._calls = model, calls

    @contextmanager
    def use(self, loading: Loading) -> Iterator[Model]:
        """The model as one of the threads uses it."""
        from sdcli.models.joint_calls import shared

        yield shared(self._model, self._calls)

    def has(self, loading: Loading) -> bool:
        """True: it is loaded."""
        return True

    def unload(self) -> None:
        """Not by one of the threads."""
