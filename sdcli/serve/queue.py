"""Queue: the pictures that were asked for, in their order, and what became of each. Used from the event loop only.

A `Job` is one client's wish. Jobs that ask for the same picture share one `Drawing`, which is stopped when the last of
them is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import time
import uuid
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sdcli.batch.outcome import Failure
from sdcli.errors import SdError
from sdcli.request.inline_image import InlineImage
from sdcli.request.request import Request

State = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED = ("done", "failed", "cancelled")
MAX_PREVIEWS = 10  # of one drawing
HEARTBEAT = 15.0  # seconds after which a stream without news says that it is alive
KEPT_JOBS, KEPT_BYTES, KEPT_SECONDS = 256, 256_000_000, 600.0


class QueueFull(SdError):
    """No place is free in the queue; `seconds` is when one may be."""

    kind = "queue_full"

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        super().__init__(f"the queue is full; try again in {seconds} s")


@dataclass(frozen=True)
class Ask:
    """One picture that is asked for, and the form of its file.

    `request` is recorded: it has a seed, and its networks, embeddings and styles are found. `notes` are for the client.
    """

    request: Request
    suffix: str = ".png"
    quality: int | None = None
    metadata: bool = True
    name: str = ""
    notes: tuple[str, ...] = ()
    model: str = "tiny"  # as the picture records it: its name for clients
    attached: tuple[tuple[str, InlineImage], ...] = ()  # the pictures that options of the request name

    @property
    def key(self) -> tuple[Any, ...]:
        """Two asks of equal keys get the same bytes."""
        return (self.request, self.suffix, self.quality, self.metadata, self.attached)


@dataclass(frozen=True)
class Finished:
    """A picture that was drawn: the bytes of its file, and what it records."""

    data: bytes
    request: Request  # nothing in it is open; its files have no folders
    facts: Mapping[str, Any]
    seconds: Mapping[str, float]
    networks: str
    size: tuple[int, int]


@dataclass(eq=False)
class Drawing:
    """One picture that is drawn, for all the jobs that ask for it."""

    ask: Ask
    state: State = "queued"
    step: int = 0
    steps: int = 0  # 0: not known yet
    previews: list[bytes] = field(default_factory=list)  # PNGs of the estimates on the way
    preview_count: int = 0
    result: Finished | None = None
    failure: Failure | None = None
    stops: bool = False  # read by the worker after each step
    jobs: set[Job] = field(default_factory=set)
    change: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def has_ended(self) -> bool:
        """True if nothing more will change."""
        return self.state in ENDED

    def wants_preview(self, step: int, steps: int) -> bool:
        """True if a preview is wanted after this step: they are spread evenly, and none is of the last step."""
        count = min(self.preview_count, steps - 1)
        return any(step == max(1, round(steps * i / (count + 1))) for i in range(1, count + 1))

    def changed(self) -> None:
        """Wake all who follow."""
        self.change.set()
        self.change = asyncio.Event()


@dataclass(eq=False)
class Job:
    """One client's wish for a picture."""

    drawing: Drawing
    name: str = ""
    id: str = field(default_factory=lambda: f"job-{uuid.uuid4().hex}")
    created: float = field(default_factory=time.time)
    ended: float = 0.0  # time.monotonic()
    is_cancelled: bool = False

    @property
    def state(self) -> State:
        """What became of it."""
        return "cancelled" if self.is_cancelled else self.drawing.state

    @property
    def has_ended(self) -> bool:
        """True if nothing more will change."""
        return self.state in ENDED

    def want_previews(self, count: int) -> None:
        """Ask for so many previews on the way; a drawing that several share makes the largest number."""
        self.drawing.preview_count = min(MAX_PREVIEWS, max(self.drawing.preview_count, count))

    async def follow(self) -> AsyncIterator[Drawing]:
        """The drawing, at once, after each change, and every 15 s without one, until the job has ended."""
        while True:
            change, is_last = self.drawing.change, self.has_ended
            yield self.drawing
            if is_last:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT):
                    await change.wait()


class Queue:
    """The drawings that wait for a worker, and those in work. `places` is how many may wait."""

    def __init__(self, places: int = 16) -> None:
        self.places = places
        self.inbox: queue.SimpleQueue[Drawing | None] = queue.SimpleQueue()  # what the workers read
        self.counts = dict.fromkeys(ENDED, 0)  # drawings, by how they ended
        self.refused = 0  # requests
        self.steps = 0  # taken
        self.seconds = 0.0  # of finished pictures
        self.workers = 1
        self._open: dict[tuple[Any, ...], Drawing] = {}  # drawings that have not ended
        self._kept: OrderedDict[str, Job] = OrderedDict()
        self._took: deque[float] = deque([2.0], maxlen=8)  # seconds of the last pictures

    @property
    def waiting(self) -> int:
        """How many drawings wait for a worker."""
        return sum(drawing.state == "queued" for drawing in self._open.values())

    @property
    def running(self) -> list[Drawing]:
        """The drawings in work."""
        return [drawing for drawing in self._open.values() if drawing.state == "running"]

    def submit(self, asks: Sequence[Ask], keep: bool = False) -> list[Job]:
        """A job for each ask; raises QueueFull, and takes none of them, if there are too few places.

        Where nothing waits, any number is taken: what asks for more pictures than there are places would else never be.
        """
        new = {ask.key for ask in asks} - self._open.keys()
        if new and self.waiting and self.waiting + len(new) > self.places:
            self.refused += 1
            raise QueueFull(self.seconds_to_wait())
        return [self._submit(ask, keep) for ask in asks]

    def ahead_of(self, job: Job) -> int:
        """How many drawings are before that of a waiting job, those in work included; 0 if it does not wait."""
        return list(self._open.values()).index(job.drawing) if job.state == "queued" else 0

    def seconds_to_wait(self) -> int:
        """About how long it takes until a place is free, 1 to 60 s."""
        return max(1, min(60, round(sum(self._took) / len(self._took) / self.workers)))

    def _submit(self, ask: Ask, keep: bool) -> Job:
        drawing = self._open.get(ask.key)
        if drawing is None:
            drawing = self._open[ask.key] = Drawing(ask)
            self.inbox.put(drawing)
        job = Job(drawing, ask.name)
        drawing.jobs.add(job)
        if keep:
            self._keep(job)
        return job

    def cancel(self, *jobs: Job) -> None:
        """End these jobs. A drawing stops at its next step if nobody else waits for it; what has ended stays."""
        for job in jobs:
            if not job.has_ended:
                self._cancel(job)

    def _cancel(self, job: Job) -> None:
        job.is_cancelled, job.ended = True, time.monotonic()
        drawing = job.drawing
        drawing.jobs.discard(job)
        if not drawing.jobs:
            drawing.stops = True
            self._open.pop(drawing.ask.key, None)
            if drawing.state == "queued":
                self.end(drawing, "cancelled")
        drawing.changed()

    def cancel_all(self) -> None:
        """End every job."""
        for drawing in list(self._open.values()):
            self.cancel(*drawing.jobs)

    # --- what kept jobs left

    def find(self, id: str) -> Job | None:
        """A job that was submitted with `keep`; None if there is none, or if it ended too long ago."""
        self._forget()
        return self._kept.get(id)

    def kept(self) -> list[Job]:
        """All jobs that can be found, the oldest first."""
        self._forget()
        return list(self._kept.values())

    def _keep(self, job: Job) -> None:
        self._kept[job.id] = job
        self._forget()

    def _forget(self) -> None:
        """Drop the ended jobs that are too old, too many or too large, the oldest first."""
        now = time.monotonic()
        held = {id(job.drawing): job.drawing for job in self._kept.values()}
        size = sum(map(_bytes, held.values()))
        many = len(self._kept) - KEPT_JOBS
        for job in [job for job in self._kept.values() if job.has_ended]:
            if job.ended + KEPT_SECONDS > now and many <= 0 and size <= KEPT_BYTES:
                continue
            del self._kept[job.id]
            many -= 1
            size -= _bytes(job.drawing)

    # --- what the workers tell, in the event loop

    def begin(self, drawing: Drawing) -> None:
        """A worker has begun with it."""
        if not drawing.has_ended:
            drawing.state = "running"
            drawing.changed()

    def stepped(self, drawing: Drawing, step: int, steps: int, preview: bytes | None) -> None:
        """A worker has taken a step."""
        drawing.step, drawing.steps = step, steps
        self.steps += 1
        if preview is not None:
            drawing.previews = [*drawing.previews, preview][-2 * MAX_PREVIEWS :]
        drawing.changed()

    def end(self, drawing: Drawing, state: State, outcome: Finished | Failure | None = None) -> None:
        """A drawing has ended, with its picture or with why there is none."""
        if drawing.has_ended:
            return
        drawing.state = state
        if isinstance(outcome, Finished):
            drawing.result = outcome
            self._took.append(sum(outcome.seconds.values()))
            self.seconds += self._took[-1]
        elif outcome is not None:
            drawing.failure = outcome
        self.counts[state] += 1
        if self._open.get(drawing.ask.key) is drawing:
            del self._open[drawing.ask.key]
        drawing.ask = replace(drawing.ask, request=without_pixels(drawing.ask.request), attached=())
        for job in drawing.jobs:
            job.ended = time.monotonic()
        drawing.jobs.clear()
        drawing.changed()


def without_pixels(request: Request) -> Request:
    """The request without the bytes of its pictures, which are needed no more: they keep their names."""
    light = {
        name: InlineImage(b"", value.name)
        for name in ("image", "mask", "depth")
        if isinstance(value := getattr(request, name), InlineImage)
    }
    return request.replace(**light) if light else request


def _bytes(drawing: Drawing) -> int:
    """What an ended drawing holds."""
    return (len(drawing.result.data) if drawing.result else 0) + sum(map(len, drawing.previews))
