"""RemoteWorker: draws tasks in another process than the batch; what it answers can be sent."""

from __future__ import annotations

import dataclasses
import traceback
from dataclasses import dataclass, field

from sdcli.batch.executor import Drawn, Failed, Task
from sdcli.batch.outcome import Failure
from sdcli.batch.worker import draw_task
from sdcli.errors import naming_options
from sdcli.models.cache import ModelCache


@dataclass(frozen=True)
class Encoded:
    """The bytes of a file that are made already; stands for `Drawn.encode`."""

    data: bytes = field(repr=False)

    def __call__(self) -> bytes:
        return self.data


class RemoteWorker:
    """Draws tasks one after another, with one model in memory at a time.

    `names_options`: errors name options as the command line does. It is what the driver does, so that a failure has
    the same words wherever its task is drawn.
    """

    def __init__(self, names_options: bool) -> None:
        self.models = ModelCache()
        self.names_options = names_options

    def draw(self, task: Task) -> Drawn | Failed:
        """Draw one task and encode its file."""
        with naming_options(self.names_options):
            drawn = draw_task(task, self.models)
            if isinstance(drawn, Failed):
                return drawn
            try:
                data = drawn.encode()
            except Exception as error:
                return Failed(task.number, Failure.of(error), traceback.format_exc())
        return dataclasses.replace(
            drawn, encode=Encoded(data), facts=dict(drawn.facts), seconds=dict(drawn.seconds)
        )
