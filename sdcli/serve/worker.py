"""Worker: the thread that owns a device and its models, and draws one picture after the other."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple

from sdcli.batch.outcome import Failure
from sdcli.errors import SdError
from sdcli.models.cache import ModelCache
from sdcli.request.request import Loading
from sdcli.serve.names import without_folders
from sdcli.serve.queue import Ask, Drawing, Finished, Queue, without_pixels

if TYPE_CHECKING:
    from sdcli.request.picture import Picture
    from sdcli.result import Step, Watcher


class Stopped(SdError):
    """A drawing that nobody waits for any more."""

    kind = "cancelled"


class Worker(threading.Thread):
    """Draws what the queue holds, on one device. It ends with the process.

    `tell` is told of a bug, with its traceback. `ready` is done when the first model is loaded, or raises why not.
    """

    def __init__(
        self, queue: Queue, loading: Loading, loop: asyncio.AbstractEventLoop, tell: Callable[[str], None]
    ) -> None:
        super().__init__(name=f"sd-draw-{loading.device}", daemon=True)
        self.queue, self.loading, self.loop, self.tell = queue, loading, loop, tell
        self.models = ModelCache()
        self.ready: Future[None] = Future()
        self._encoding: threading.Thread | None = None  # that makes the last picture's file

    def run(self) -> None:
        """Load the model, then draw until the queue holds None."""
        try:
            with self.models.use(self.loading):
                pass
            self.ready.set_result(None)
        except BaseException as error:
            self.ready.set_exception(error)
            return
        while (drawing := self.queue.inbox.get()) is not None:
            if not drawing.stops:
                self._draw(drawing)
            del drawing

    def _draw(self, drawing: Drawing) -> None:
        """Draw a picture, and let its file be made while the next one is drawn."""
        self._post(self.queue.begin, drawing)
        try:
            drawn = draw(drawing.ask, self.loading.device, self.models, self._watcher(drawing))
        except Exception as error:
            if not isinstance(error, SdError) or error.kind == "memory":
                self.models.unload()
            self._failed(drawing, error)
            return
        if self._encoding is not None:
            self._encoding.join()  # no more than one picture waits for its file
        self._encoding = threading.Thread(target=self._encode, args=(drawing, drawn), daemon=True)
        self._encoding.start()

    def _encode(self, drawing: Drawing, drawn: Drawn) -> None:
        try:
            finished = encode(drawing.ask, drawn)
        except Exception as error:
            self._failed(drawing, error)
        else:
            self._post(self.queue.end, drawing, "done", finished)

    def _failed(self, drawing: Drawing, error: Exception) -> None:
        """Tell why there is no picture; a bug in one must not end the server."""
        if isinstance(error, Stopped):
            self._post(self.queue.end, drawing, "cancelled")
            return
        if not isinstance(error, SdError):
            self.tell("".join(traceback.format_exception(error)))
        self._post(self.queue.end, drawing, "failed", Failure.of(error))

    def _watcher(self, drawing: Drawing) -> Watcher:
        def watch(steps: Iterator[Step]) -> Iterator[Step]:
            for step in steps:
                if drawing.stops:
                    raise Stopped("nobody waits for this picture any more")
                preview = _preview(step) if drawing.wants_preview(step.number, step.total) else None
                self._post(self.queue.stepped, drawing, step.number, step.total, preview)
                yield step

        return watch

    def _post(self, call: Callable[..., None], *arguments: object) -> None:
        """Let the event loop call this; nothing happens if that has ended."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(call, *arguments)


class Drawn(NamedTuple):
    """A picture that is drawn and is no file yet. Nothing of it is on the device any more."""

    picture: Picture
    seconds: Mapping[str, float]
    networks: str


def draw(ask: Ask, device: str, models: ModelCache, watch: Watcher) -> Drawn:
    """Draw what is asked for on a device. Raises SdError."""
    from sdcli.engine import generate
    from sdcli.request.inputs import open_inputs

    inputs = open_inputs(ask.request, attached=dict(ask.attached))
    result = generate(ask.request.replace(device=device), models, watch, inputs)
    return Drawn(result.picture, result.seconds, result.networks)


def encode(ask: Ask, drawn: Drawn) -> Finished:
    """The file of a picture, whose bytes are those that the command line saves. Raises SdError."""
    from sdcli.request.picture import encoding_of

    picture = drawn.picture
    request = without_folders(picture.request.replace(device=ask.request.device, model=ask.model))
    picture = dataclasses.replace(picture, request=request)
    encoding = encoding_of(ask.suffix, ask.quality, request)
    data = picture.encoded(encoding, ask.metadata)
    facts = dict(picture.facts_in(encoding))
    size = (picture.image.width, picture.image.height)
    return Finished(data, without_pixels(request), facts, drawn.seconds, drawn.networks, size)


def _preview(step: Step) -> bytes:
    """The estimate of the finished picture at its size, soft, as a PNG that is made fast."""
    small = step.preview(step.denoised)
    image = small.resize((small.width * 8, small.height * 8), resample=3)  # bicubic
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()
