"""The processes executor: several processes on this machine, each with a model, and with a GPU if there is one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence

from sdcli.batch.executor import Event, Executor, Task, parse_count
from sdcli.batch.workers.dispatch import dispatch
from sdcli.batch.workers.local_processes import LocalProcesses

MAX_PROCESSES = 256


def processes(option: str = "") -> Executor:
    """Draw in several processes of this machine: `processes:4`, or one a GPU if no number is given.

    Each process holds a model of its own, so each takes the memory of one `sd`.
    """
    return Processes(parse_count("processes", option, 1, MAX_PROCESSES, "processes"))


class Processes:
    """Draws tasks in processes of this machine; `count` None is one a GPU, or one."""

    def __init__(self, count: int | None) -> None:
        self.count = count

    def run(self, tasks: Sequence[Task], started: Callable[[int], None]) -> Iterator[Event]:
        """Draw the tasks; closing the iterator kills the processes. Raises NoWorkers if none can be started."""
        gpus = visible_gpus()
        workers = LocalProcesses(self.count or max(1, len(gpus)), gpus)
        yield from dispatch(workers, tasks, started)


def visible_gpus() -> list[str]:
    """The CUDA devices that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    if not os.path.exists("/dev/nvidiactl") and shutil.which("nvidia-smi") is None:
        return []  # known without importing torch

    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return [each.strip() for each in named.split(",")][:count] if named else [str(i) for i in range(count)]
