"""Wire: JSON and forms in, and streams of server-sent events out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import StreamingResponse

from sdcli.errors import UsageError
from sdcli.request.inline_image import InlineImage

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

MAX_FIELDS, MAX_FILES = 100, 17
MAX_VALUES = 200_000  # of a JSON body: many small ones would take many times its bytes as Python's objects
KEEP_ALIVE = b": still here\n\n"
"""A comment, which readers of events skip."""


async def json_of(http: Request) -> Any:
    """The JSON of a body; raises UsageError for what is none, for equal keys and for NaN."""
    if not http.headers.get("content-type", "").startswith("application/json"):
        raise UsageError("the body is not application/json")
    return read_json(await http.body())


async def object_of(http: Request) -> dict[str, Any]:
    """The JSON object of a body; raises UsageError."""
    value = await json_of(http)
    if not isinstance(value, dict):
        raise UsageError("the body is no JSON object")
    return value


def read_json(data: bytes) -> Any:
    """The value of a JSON text; raises UsageError as `json_of`."""
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise UsageError(f"the body has more than {MAX_VALUES:,} values or commas; split it")
    try:
        return json.loads(data, object_pairs_hook=_without_doubles, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise UsageError("the body is not UTF-8") from None
    except ValueError as error:
        raise UsageError(f"the body is no JSON: {error}") from None
    except RecursionError:
        raise UsageError("the body is nested too deeply") from None


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"{twice:.80}: is here twice; keep one")
    return found


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


async def form_of(http: Request) -> list[tuple[str, str | InlineImage]]:
    """The fields of a multipart form in their order, its files as pictures; raises UsageError and HTTPException."""
    if not http.headers.get("content-type", "").startswith("multipart/form-data"):
        raise UsageError("the body is not multipart/form-data")
    async with http.form(max_files=MAX_FILES, max_fields=MAX_FIELDS) as form:
        items: list[tuple[str, str | InlineImage]] = []
        for key, value in form.multi_items():
            items.append((key, InlineImage(await value.read()) if isinstance(value, UploadFile) else value))
        return items


def event(data: Mapping[str, Any], name: str = "") -> bytes:
    """One server-sent event with JSON data."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


class EventStream(StreamingResponse):
    """Server-sent events. `at_end` is called when the last is sent, or when the client leaves first."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], at_end: Callable[[], None] = lambda: None) -> None:
        super().__init__(events, headers={"X-Accel-Buffering": "no"})
        self.at_end = at_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.create_task(self.stream_response(send))
        leaving = asyncio.create_task(self.listen_for_disconnect(receive))
        try:
            await asyncio.wait([sending, leaving], return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()  # raises what it raised
        finally:
            self.at_end()
            sending.cancel()
            leaving.cancel()
            await asyncio.wait([sending, leaving])
