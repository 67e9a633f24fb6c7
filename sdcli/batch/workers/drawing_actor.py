"""DrawingActor: what an actor of Ray does on its machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from sdcli.batch.executor import Drawn, Failed, Task
from sdcli.batch.workers.machine import Machine, missing_or_other, model_digest, this_machine
from sdcli.batch.workers.remote_worker import RemoteWorker
from sdcli.errors import SdError, naming_options
from sdcli.request.request import Loading


@dataclass(frozen=True)
class Unfit:
    """Why an actor cannot draw a task that the driver could: its files are others."""

    reason: str


class DrawingActor:
    """Draws tasks by models that have the same sha256 as the driver's."""

    def __init__(self, names_options: bool) -> None:
        import sdcli.engine  # noqa: F401  # what takes long is done before the first task

        self.worker = RemoteWorker(names_options)
        self.equal: set[tuple[Loading, str]] = set()  # models that were compared

    def hello(self, folder: str, torch_threads: int) -> Machine:
        """Go to the driver's folder, if it is here, and take on its threads; answers what to compare."""
        import torch

        if os.path.isdir(folder):
            os.chdir(folder)
        torch.set_num_threads(torch_threads)
        return this_machine()

    def draw(self, task: Task, model: str, files: Mapping[str, str]) -> Drawn | Failed | Unfit:
        """Draw a task; `model` is the sha256 of its model's weights, `files` those of its other files, at the driver.

        An empty one is not known there.
        """
        with naming_options(self.worker.names_options):
            wrong = self._model_that_is_wrong(task.request.loading, model) or missing_or_other(files)
        return Unfit(f"{wrong}; copy it to the same path") if wrong else self.worker.draw(task)

    def _model_that_is_wrong(self, loading: Loading, sha256: str) -> str:
        if not sha256 or (loading, sha256) in self.equal:
            return ""
        try:
            found = model_digest(loading)
        except (SdError, OSError) as error:
            return f"the model {loading.model} cannot be read there: {error}"
        if found != sha256:
            return f"the model {loading.model} is another one there (sha256 {found[:10]}, not {sha256[:10]})"
        self.equal.add((loading, sha256))
        return ""
