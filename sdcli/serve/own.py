"""Own: `/v1/jobs`: a job file in, ids or a stream of events out; the API that `sd --server` speaks.

    POST   /v1/jobs               a job file as JSON: 202 and the jobs; or with Accept: text/event-stream their events
                                  and pictures, and who leaves that stream cancels its jobs
    GET    /v1/jobs               the jobs of the last minutes
    GET    /v1/jobs/ID            one job
    GET    /v1/jobs/ID/events     its events, in the form of `sd batch --json`; ?previews=3 adds pictures of steps
    GET    /v1/jobs/ID/picture    its file
    DELETE /v1/jobs/ID            cancel it

The query of POST says what file is wanted: ?format=png, jpg or webp, &quality=1 … 100, &metadata=false.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request as HTTPRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from sdcli.batch.outcome import EVENT_SCHEMA
from sdcli.errors import UsageError
from sdcli.request.command_line import command_line
from sdcli.request.encode import SUFFIXES
from sdcli.request.request import Request
from sdcli.serve.app import as_openai
from sdcli.serve.attached import is_nameless, names_of
from sdcli.serve.names import without_folders
from sdcli.serve.openapi import openapi
from sdcli.serve.queue import MAX_PREVIEWS, Drawing, Job
from sdcli.serve.service import Service, problem_of_job
from sdcli.serve.wire import KEEP_ALIVE, EventStream, event, json_of
from sdcli.store import output_path

FORMATS = {format: suffix for suffix, format in reversed(SUFFIXES.items())}
"""png, jpg or webp -> the suffix of such a file."""
MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}


def routes(service: Service) -> list[BaseRoute]:
    """The routes of this API."""

    def route(path: str, endpoint: Any, method: str = "GET") -> Route:
        return Route(path, service.answers(as_openai, endpoint), methods=[method])

    return [
        route("/v1/jobs", submit, "POST"),
        route("/v1/jobs", jobs),
        route("/v1/jobs/{id}", job),
        route("/v1/jobs/{id}", cancel, "DELETE"),
        route("/v1/jobs/{id}/events", events),
        route("/v1/jobs/{id}/picture", picture),
        route("/openapi.json", description),
    ]


async def submit(service: Service, http: HTTPRequest) -> Response:
    """Take the jobs of a job file."""
    format = http.query_params.get("format", "png")
    if format not in FORMATS:
        raise UsageError(f"format: {format!r:.40} is unknown; it is {', '.join(sorted(FORMATS))}")
    quality = _number(http, "quality", 1, 100)
    metadata = http.query_params.get("metadata", "true")
    if metadata not in ("true", "false"):
        raise UsageError(f"metadata: {metadata!r:.40} is not true or false")
    previews = _number(http, "previews", 0, MAX_PREVIEWS)
    body = await json_of(http)
    if not isinstance(body, dict | list):
        raise UsageError("the body is no job file: it is an object, or a list of jobs")
    asks = await service.asks(
        body, is_job_file=True, suffix=FORMATS[format], quality=quality, metadata=metadata == "true"
    )
    is_stream = "text/event-stream" in http.headers.get("accept", "")
    taken = service.queue.submit(asks, keep=not is_stream)
    for each in taken:
        each.want_previews(previews or 0)
    if is_stream:
        return EventStream(_events(taken, True, previews or 0), lambda: service.queue.cancel(*taken))
    more = {"Location": f"/v1/jobs/{taken[0].id}"} if len(taken) == 1 else {}
    return JSONResponse({"jobs": [_job(service, each) for each in taken]}, 202, headers=more)


async def jobs(service: Service, http: HTTPRequest) -> Response:
    """The jobs that can be found."""
    return JSONResponse({"jobs": [_job(service, each) for each in service.queue.kept()]})


async def job(service: Service, http: HTTPRequest) -> Response:
    """One job."""
    return JSONResponse(_job(service, _found(service, http)))


async def cancel(service: Service, http: HTTPRequest) -> Response:
    """Cancel a job; one that has ended stays as it is."""
    found = _found(service, http)
    service.queue.cancel(found)
    return JSONResponse(_job(service, found))


async def events(service: Service, http: HTTPRequest) -> Response:
    """The events of a job, from its start on. Leaving them leaves the job as it is."""
    found, previews = _found(service, http), _number(http, "previews", 0, MAX_PREVIEWS) or 0
    found.want_previews(previews)
    return EventStream(_events([found], False, previews))


async def picture(service: Service, http: HTTPRequest) -> Response:
    """The file of a job that is done."""
    found = _found(service, http)
    result = found.drawing.result
    if found.state != "done" or result is None:
        problem = problem_of_job(found) if found.has_ended else None
        raise HTTPException(
            409, problem.message if problem else f"the job is {found.state}; wait for its events"
        )
    return Response(result.data, media_type=MEDIA_TYPES[found.drawing.ask.suffix])


async def description(service: Service, http: HTTPRequest) -> Response:
    """What this server answers, as OpenAPI."""
    return JSONResponse(openapi())


def _found(service: Service, http: HTTPRequest) -> Job:
    found = service.queue.find(http.path_params["id"])
    if found is None:
        raise HTTPException(404, "there is no such job, or it ended too long ago")
    return found


def _number(http: HTTPRequest, name: str, low: int, high: int) -> int | None:
    """A whole number of the query; None if it is not there. Raises UsageError."""
    text = http.query_params.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and low <= int(text[:9]) <= high):
        raise UsageError(f"{name}: {text!r:.40} is not a whole number in {low}...{high}")
    return int(text)


def _job(service: Service, job: Job) -> dict[str, Any]:
    """A job as JSON."""
    drawing, result = job.drawing, job.drawing.result
    request = (
        result.request if result else without_folders(drawing.ask.request.replace(model=drawing.ask.model))
    )
    told: dict[str, Any] = {
        "id": job.id,
        "name": job.name,
        "state": job.state,
        "step": drawing.step,
        "steps": drawing.steps,
        "ahead": service.queue.ahead_of(job),
        "created": job.created,
        "seed": request.seed,
        "request": request.as_dict(),
        "warnings": list(drawing.ask.notes),
    }
    if job.state == "done" and result is not None:
        told |= {
            "facts": result.facts,
            "seconds": result.seconds,
            "sha256": hashlib.sha256(result.data).hexdigest(),
        }
        told |= {"size": list(result.size), "picture": f"/v1/jobs/{job.id}/picture"}
        told |= {
            "file": output_path(None, request, drawing.ask.suffix).name,
            "command": _command(request),
        }
    elif job.has_ended:
        told["error"] = _error(job)
    return told


def _command(request: Request) -> str:
    """The command that draws the same; empty if none can be typed, as for two pictures without a name."""
    as_typed = request.as_dict()
    nameless = [name for name in ("image", "mask", "depth") if as_typed.get(name) == "-"]
    is_lost = len(nameless) > 1 or any(map(is_nameless, names_of(request)))
    return "" if is_lost else command_line(Request.from_dict(as_typed))


# --- events


async def _events(jobs: Sequence[Job], has_pictures: bool, previews: int) -> AsyncIterator[bytes]:
    """The events of jobs, one after the other, as `sd batch --json` has them; with the file of each, if wanted."""
    begun = time.monotonic()
    yield _event("start", jobs=len(jobs), to_draw=len(jobs))
    for index, job in enumerate(jobs, 1):
        about = {"index": index, "name": job.name, "id": job.id, "seed": job.drawing.ask.request.seed}
        for note in job.drawing.ask.notes:
            yield _event("warning", **about, message=note)
        async for data in _events_of(job, about, previews):
            yield data
        yield _end(job, about, has_pictures)
    states = [job.state for job in jobs]
    counts = {state: states.count(state) for state in ("done", "failed", "cancelled")}
    yield _event("summary", **counts, seconds=round(time.monotonic() - begun, 3))


async def _events_of(job: Job, about: dict[str, Any], previews: int) -> AsyncIterator[bytes]:
    """What happens to a job until it has ended."""
    has_begun, step, shown = False, 0, 0
    async for drawing in job.follow():
        before = (has_begun, step, shown)
        if not has_begun and drawing.state != "queued" and not job.is_cancelled:
            has_begun = True
            yield _event("job_started", **about)
        if drawing.step != step:
            step = drawing.step
            pictures = drawing.previews[shown:] if previews else []
            shown += len(pictures)
            yield _event(
                "step",
                **about,
                **_progress(drawing),
                **({"preview": _base64(pictures[-1])} if pictures else {}),
            )
        if before == (has_begun, step, shown):
            yield KEEP_ALIVE


def _progress(drawing: Drawing) -> dict[str, int]:
    return {"step": drawing.step, "steps": drawing.steps}


def _end(job: Job, about: dict[str, Any], has_picture: bool) -> bytes:
    """The last event of a job."""
    result = job.drawing.result
    if job.state != "done" or result is None:
        return _event("job_failed", **about, error=_error(job))
    told: dict[str, Any] = {
        "seconds": result.seconds,
        "request": result.request.as_dict(),
        "sha256": hashlib.sha256(result.data).hexdigest(),
        "facts": result.facts,
        "networks": result.networks,
    }
    if has_picture:
        told["picture"] = _base64(result.data)
    return _event("job_done", **about, **told)


def _error(job: Job) -> dict[str, Any]:
    """Why a job has no picture, in the words of `sd batch --json`."""
    problem, failure = problem_of_job(job), job.drawing.failure
    assert problem is not None
    return {"code": problem.kind, "exit": failure.code if failure else 1, "message": problem.message}


def _event(type: str, **facts: Any) -> bytes:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return event({"schema": EVENT_SCHEMA, "type": type, "time": now, **facts})


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
