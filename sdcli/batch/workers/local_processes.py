"""LocalProcesses: workers that are processes of this machine, each at the other end of a pipe.

A pool of the standard library cannot be used: when one of its processes dies, all that it was given fails.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from sdcli.batch.executor import Task
from sdcli.batch.workers.dispatch import Answered, Gone, Ready, Report
from sdcli.errors import are_options_named

SECONDS_A_WAIT = 1.0


@dataclass(frozen=True)
class _Worker:
    process: SpawnProcess
    pipe: Connection


class LocalProcesses:
    """So many processes; worker number i uses the GPU i, counted round, if there are any."""

    patience = float("inf")  # a process that is being started is there

    def __init__(self, wanted: int, gpus: Sequence[str] = ()) -> None:
        self.wanted = wanted
        self.gpus = gpus
        self.workers: dict[int, _Worker] = {}
        self.gpu_of: dict[int, str] = {}

    def start(self, worker: int) -> None:
        """Start a process; it sends None when it is ready."""
        gpu = self._free_gpu()
        context = multiprocessing.get_context("spawn")  # a fork would share the driver's threads and its CUDA
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_work, args=(theirs, gpu, are_options_named()), name=f"sd worker {worker}", daemon=True
        )
        with _interrupts_held():
            process.start()
            self.workers[worker] = _Worker(process, ours)
        self.gpu_of[worker] = gpu
        theirs.close()

    def give(self, worker: int, task: Task) -> None:
        """Send a task; if the process has died, `wait` tells so."""
        with contextlib.suppress(OSError):
            self.workers[worker].pipe.send(task)

    def wait(self) -> list[Report]:
        """What the processes sent, and which of them ended."""
        by_pipe = {each.pipe: worker for worker, each in self.workers.items()}
        ready = wait(list(by_pipe), timeout=SECONDS_A_WAIT)
        return [self._report(by_pipe[pipe]) for pipe in ready]  # type: ignore[index]

    def stop(self) -> None:
        """Kill the processes, and wait until each has ended."""
        for each in self.workers.values():
            each.process.kill()
        for worker in list(self.workers):
            self._end(worker)

    def _report(self, worker: int) -> Report:
        try:
            answer = self.workers[worker].pipe.recv()
        except (EOFError, OSError):
            return self._lost(worker)
        return Ready(worker) if answer is None else Answered(worker, answer)

    def _lost(self, worker: int) -> Gone:
        process = self.workers[worker].process
        number = process.pid
        code = self._end(worker)
        if code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
            how += "; the system may be out of memory" if code == -9 else ""
        else:
            how = f"ended with exit code {code}; standard error tells why"
        return Gone(worker, f"worker {worker} (process {number}) {how}")

    def _end(self, worker: int) -> int:
        """Forget a process, which has ended or is about to; returns its exit code."""
        gone = self.workers.pop(worker)
        self.gpu_of.pop(worker, None)
        gone.process.join(timeout=5)
        if gone.process.exitcode is None:  # it closed its pipe, but goes on
            gone.process.kill()
            gone.process.join()
        gone.pipe.close()
        return gone.process.exitcode or 0

    def _free_gpu(self) -> str:
        """The GPU that the fewest processes use; empty if there is none."""
        used = list(self.gpu_of.values())
        return min(self.gpus, key=used.count, default="")


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Inside, Ctrl-C waits; a process that is started inherits that, until it ignores it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe: Connection, gpu: str, names_options: bool) -> None:
    """What a worker process does until the pipe is closed: a task in, what became of it out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the driver decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    os.dup2(2, 1)  # standard output is the driver's alone
    threading.Thread(target=_end_with_parent, daemon=True).start()

    import sdcli.engine  # noqa: F401  # what takes long is done before the first task
    from sdcli.batch.workers.remote_worker import RemoteWorker

    remote = RemoteWorker(names_options)
    with contextlib.suppress(EOFError, BrokenPipeError):
        pipe.send(None)
        while True:
            pipe.send(remote.draw(pipe.recv()))


def _end_with_parent() -> None:
    """End this process at once when the driver has ended, in the middle of a picture too."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
