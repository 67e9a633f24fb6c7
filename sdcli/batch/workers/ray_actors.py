"""RayActors: workers that are actors of Ray. The driver alone gives tasks again; Ray would give them to the same actor.

An actor whose process is lost is restarted by Ray, perhaps on another machine: it is asked who it is before it is used.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, Literal

from sdcli.batch.executor import Failed, Task
from sdcli.batch.outcome import Failure
from sdcli.batch.workers.dispatch import Answered, Gone, Ready, Report
from sdcli.batch.workers.drawing_actor import DrawingActor, Unfit
from sdcli.batch.workers.machine import Machine, file_digests, model_digest, this_machine
from sdcli.errors import SdError, are_options_named
from sdcli.machine import helpful_threads
from sdcli.request.request import Loading

SECONDS_A_WAIT = 1.0
SECONDS_TO_NEXT_CALL = 0.5  # between two questions to an actor that is unavailable
PASSED_ON = ("SDCLI_", "OMP_", "MKL_", "ATEN_", "DNNL_", "ONEDNN_", "CUBLAS_", "HF_HUB_OFFLINE")
"""How the environment variables begin that a picture may depend on."""
NOT_PASSED_ON = ("SDCLI_CACHE",)

Call = Literal["hello", "draw"]


class RayActors:
    """As many actors as the cluster has GPUs, or times the cores that a picture takes on this machine."""

    patience = 300.0

    def __init__(self, tasks: Sequence[Task]) -> None:
        import ray

        self.uses_device = any(task.request.device != "cpu" for task in tasks)
        threads = helpful_threads()
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self.wanted, resources = shares(nodes, threads, self.uses_device)
        self.make = ray.remote(DrawingActor).options(
            max_restarts=-1,
            max_task_retries=0,
            runtime_env={"env_vars": environment(os.environ, threads)},
            **resources,
        )
        self.machine: Machine | None = None  # this one; it imports torch, while the actors are being made
        self.actors: dict[int, Any] = {}
        self.names: dict[int, str] = {}
        self.calls: dict[
            Any, tuple[int, Call, int]
        ] = {}  # reference -> worker, what was asked, number of the task
        self.again: dict[int, float] = {}  # an actor that is unavailable -> when it is asked again
        self.digests: dict[Loading, str] = {}

    def start(self, worker: int) -> None:
        """Make an actor, to be asked who it is; only then does Ray tell of one that cannot be made."""
        self.actors[worker] = self.make.remote(are_options_named())
        self.names[worker] = f"worker {worker}"
        self.again[worker] = time.monotonic()

    def give(self, worker: int, task: Task) -> None:
        """Let an actor draw a task, if its files are those of this machine."""
        call = self.actors[worker].draw.remote(task, self._model(task), file_digests(task.request))
        self.calls[call.future()] = (worker, "draw", task.number)

    def wait(self) -> list[Report]:
        """What the actors answered, or why they did not.

        Futures are waited for, not references: while it waits for those, Ray loses the exit code of a SIGTERM.
        """
        for worker in [each for each, when in self.again.items() if when <= time.monotonic()]:
            del self.again[worker]
            self._say_hello(worker)
        if not self.calls:
            time.sleep(SECONDS_TO_NEXT_CALL / 2)
            return []
        timeout = SECONDS_TO_NEXT_CALL if self.again else SECONDS_A_WAIT
        answered, _ = wait(self.calls, timeout, FIRST_COMPLETED)
        reports = [self._report(call) for call in answered]
        return [each for each in reports if each is not None]

    def stop(self) -> None:
        """Kill the actors."""
        for worker in list(self.actors):
            self._drop(worker)

    def _say_hello(self, worker: int) -> None:
        import torch

        call = self.actors[worker].hello.remote(os.getcwd(), torch.get_num_threads())
        self.calls[call.future()] = (worker, "hello", -1)

    def _report(self, call: Future[Any]) -> Report | None:
        from ray.exceptions import ActorDiedError, ActorUnschedulableError, RayError, RayTaskError

        worker, asked, number = self.calls.pop(call)
        try:
            answer = call.result()
        except RayTaskError as error:
            return (
                self._refuse(worker, _last_line(error)) if asked == "hello" else _bug(worker, number, error)
            )
        except (ActorDiedError, ActorUnschedulableError) as error:
            self._drop(worker)
            return Gone(worker, f"{self.names[worker]} {_why_it_ended(error)}")
        except RayError as error:  # unavailable: it may be restarted, and may be somewhere else then
            self.again[worker] = time.monotonic() + SECONDS_TO_NEXT_CALL
            if asked == "hello":
                return None
            return Gone(worker, f"{self.names[worker]} {_why_it_ended(error)}", may_return=True)
        if isinstance(answer, Unfit):
            return self._refuse(worker, answer.reason)
        return self._greet(worker, answer) if isinstance(answer, Machine) else Answered(worker, answer)

    def _greet(self, worker: int, machine: Machine) -> Report:
        """Use an actor whose machine equals this one; the first GPU counts where this machine has none."""
        self.names[worker] = f"worker {worker} on {machine.name}"
        expected = self.machine = self.machine or this_machine()
        if not self.uses_device:
            expected = dataclasses.replace(expected, gpu=machine.gpu)
        elif not expected.gpu and machine.gpu:
            self.machine = expected = dataclasses.replace(expected, gpu=machine.gpu)
        difference = expected.difference(machine)
        return self._refuse(worker, difference) if difference else Ready(worker)

    def _refuse(self, worker: int, reason: str) -> Gone:
        self._drop(worker)
        return Gone(worker, f"{self.names[worker]} is not used: {reason}", is_unfit=True)

    def _drop(self, worker: int) -> None:
        """Kill an actor, so that Ray restarts it no more."""
        import ray

        self.again.pop(worker, None)
        with contextlib.suppress(ray.exceptions.RayError, ValueError):
            ray.kill(self.actors.pop(worker), no_restart=True)

    def _model(self, task: Task) -> str:
        """The sha256 of a task's model; empty if it cannot be read here, which the worker tells of the task."""
        loading = task.request.loading
        if loading not in self.digests:
            try:
                self.digests[loading] = model_digest(loading)
            except (SdError, OSError):
                return ""
        return self.digests[loading]


def shares(
    nodes: Sequence[Mapping[str, float]], threads: int, uses_device: bool
) -> tuple[int, dict[str, float]]:
    """How many actors a cluster of such nodes takes, and what each occupies: a GPU, or a core for each thread.

    Nodes with fewer cores than threads are used too: the number of threads decides the bits, not the speed alone.
    """
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    if uses_device and gpus:
        return gpus, {"num_gpus": 1, "num_cpus": 0}
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    cores = max(1, min(threads, max(cpus, default=1)))
    return max(1, sum(count // cores for count in cpus)), {"num_cpus": cores}


def environment(here: Mapping[str, str], threads: int) -> dict[str, str]:
    """The environment of an actor: Ray's default of one thread would draw other pictures."""
    passed = {name: value for name, value in here.items() if name.startswith(PASSED_ON)}
    passed = {name: value for name, value in passed.items() if name not in NOT_PASSED_ON}
    return {"OMP_WAIT_POLICY": "PASSIVE", **passed, "OMP_NUM_THREADS": str(threads)}


def _why_it_ended(error: Exception) -> str:
    """Why an actor is no more, in a few words; Ray's own are many lines, with numbers that help nobody here."""
    text = str(error)
    if "creation task" in text:
        return f"could not start: {_last_line(error)}"
    memory = "memory" in text.lower()
    return f"was lost: {'its machine ran out of memory' if memory else 'its process ended, or its machine is gone'}"


def _last_line(error: Exception) -> str:
    """The exception that an actor raised, without its traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else repr(error)


def _bug(worker: int, number: int, error: Any) -> Answered:
    cause = getattr(error, "cause", None)
    failure = Failure.of(cause if isinstance(cause, Exception) else error)
    return Answered(worker, Failed(number, failure, str(error)))
