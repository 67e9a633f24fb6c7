"""Service: what the routes share: the models, the queue, and how errors become answers."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from sdcli.errors import SdError
from sdcli.serve.asks import asks_of
from sdcli.serve.bodies import Rules, read_body
from sdcli.serve.names import UnknownModel, text_without_folders
from sdcli.serve.queue import Ask, Job, Queue, QueueFull

STATUS = {"usage": 400, "image": 400, "model": 400, "memory": 503, "cancelled": 409, "queue_full": 429}
"""Kind of an error -> the status of its answer; 500 for others."""
LEFT = 499  # nobody reads it: the client has left
CHECKS_AT_ONCE = 2  # bodies that are checked at the same time


@dataclass(frozen=True)
class Problem:
    """Why a request is not answered as asked; each API puts it into its clients' form."""

    status: int
    message: str
    kind: str = "usage"
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


T = TypeVar("T")
Form = Callable[[Problem], Response]
Endpoint = Callable[["Service", Request], Awaitable[Response]]


@dataclass
class Service:
    """What the routes of all APIs share. `tell` is told of bugs, one text with its traceback each."""

    rules: Rules
    queue: Queue = field(default_factory=Queue)
    tell: Callable[[str], None] = lambda text: None
    requests: dict[str, int] = field(default_factory=dict)  # status class -> number of answers
    _limiter: CapacityLimiter | None = None

    async def asks(
        self,
        body: Mapping[str, Any] | Sequence[Any],
        *,
        is_job_file: bool = False,
        texts: bool = False,
        suffix: str = ".png",
        quality: int | None = None,
        metadata: bool = True,
    ) -> list[Ask]:
        """The pictures that a body asks for, checked; see `bodies.read_body`. Raises SdError."""

        def read() -> list[Ask]:
            found = read_body(body, self.rules, is_job_file=is_job_file, texts=texts)
            return asks_of(found, self.rules, suffix, quality, metadata)

        return await self.in_thread(read)

    async def in_thread(self, call: Callable[[], T]) -> T:
        """The result of a call that reads or computes, made in a thread; few run at the same time."""
        if self._limiter is None:
            self._limiter = CapacityLimiter(CHECKS_AT_ONCE)
        return await to_thread.run_sync(call, limiter=self._limiter)

    def answers(self, form: Form, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint of a route: `endpoint` with this service, whose errors are answered in this form."""

        async def answer(http: Request) -> Response:
            try:
                return await endpoint(self, http)
            except ClientDisconnect:
                return Response(status_code=LEFT)
            except Exception as error:
                if not isinstance(error, SdError | HTTPException):
                    self.tell(traceback.format_exc())
                return form(problem_of(error))

        return answer


def problem_of(error: Exception) -> Problem:
    """An exception as the problem that is answered; one that is no SdError is a bug, of which no details are told."""
    if isinstance(error, HTTPException):
        return Problem(error.status_code, str(error.detail), "usage", None, error.headers or {})
    if not isinstance(error, SdError):
        return Problem(500, "a bug in the server; its owner sees it on standard error", "bug")
    message = " ".join(text_without_folders(str(error)).split())
    param = message.partition(":")[0]
    named = param if param.isidentifier() and ":" in message else None
    if isinstance(error, QueueFull):
        return Problem(429, message, error.kind, None, {"Retry-After": str(error.seconds)})
    if isinstance(error, UnknownModel):
        return Problem(404, message, "model_not_found", "model")
    return Problem(STATUS.get(error.kind, 500), message, error.kind, named)


def problem_of_job(job: Job) -> Problem | None:
    """Why a job that has ended has no picture; None if it has one."""
    failure = job.drawing.failure
    if job.state == "done":
        return None
    if failure is None:
        return Problem(409, "the job was cancelled", "cancelled")
    if failure.kind == "bug":
        return problem_of(RuntimeError())
    message = " ".join(text_without_folders(failure.message).split())
    return Problem(STATUS.get(failure.kind, 500), message, failure.kind)


async def finished(http: Request, queue: Queue, jobs: Sequence[Job]) -> None:
    """Wait until all jobs have ended. If the client leaves first, they are cancelled; raises ClientDisconnect."""
    left = asyncio.create_task(until_left(http))
    ended = asyncio.create_task(_all_ended(jobs))
    try:
        await asyncio.wait([left, ended], return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            raise ClientDisconnect
    finally:
        left.cancel()
        ended.cancel()
        queue.cancel(*jobs)  # which does nothing to those that have ended


async def until_left(http: Request) -> None:
    """Wait until the client leaves. The body has been read."""
    while (await http.receive())["type"] != "http.disconnect":
        pass


async def _all_ended(jobs: Sequence[Job]) -> None:
    for job in jobs:
        async for _ in job.follow():
            pass
