"""Worker: draws one task with a cache of models; whatever goes wrong fails that task alone."""

from __future__ import annotations

import traceback
from functools import partial
from typing import TYPE_CHECKING

from sdcli.batch.executor import Drawn, Failed, Task
from sdcli.batch.outcome import Failure
from sdcli.errors import SdError
from sdcli.models.cache import ModelCache

if TYPE_CHECKING:
    from sdcli.result import Watcher


def draw_task(task: Task, models: ModelCache, watch: Watcher = iter) -> Drawn | Failed:
    """Draw one task. A failure of any kind is an answer, not an exception; only an interrupt is raised."""
    from sdcli.engine import generate
    from sdcli.request.picture import encoding_of

    try:
        result = generate(task.request, models, watch)
        picture = result.picture
        encoding = encoding_of(task.suffix, task.quality, task.request)
        encoding.check_size(*picture.image.size)
        return Drawn(
            task.number,
            picture.request,
            picture.facts_in(encoding),
            result.seconds,
            partial(picture.encoded, encoding, task.metadata),
        )
    except SdError as error:
        if error.kind == "memory":
            models.unload()
        return Failed(task.number, Failure.of(error))
    except Exception as error:  # a bug in one picture must not end a night of others
        models.unload()
        return Failed(task.number, Failure.of(error), traceback.format_exc())
