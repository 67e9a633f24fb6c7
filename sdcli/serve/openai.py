"""OpenAI: `/v1/images/generations`, `/v1/images/edits` and `/v1/models`, as OpenAI's clients call them.

https://platform.openai.com/docs/api-reference/images. A body may also hold every field of a Request, and other tools'
words for them (seed, steps, cfg_scale, negative_prompt, …). Each picture comes with its seed.
"""

from __future__ import annotations

import base64
import io
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from sdcli.errors import ImageError, UsageError
from sdcli.request.inline_image import InlineImage
from sdcli.request.jobfile.nodes import NotReadable, node_of
from sdcli.request.jobfile.openai_lines import OPENAI_MODEL, body_field
from sdcli.serve.app import as_openai
from sdcli.serve.names import ServedModel
from sdcli.serve.queue import Finished, Job
from sdcli.serve.security import error_body
from sdcli.serve.service import Service, finished, problem_of_job
from sdcli.serve.wire import KEEP_ALIVE, EventStream, event, form_of, object_of

SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}
MAX_N, MAX_PARTIAL = 10, 3
NO_USAGE = {
    "input_tokens": 0,
    "output_tokens": 0,
    "total_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
}


def routes(service: Service) -> list[BaseRoute]:
    """The routes of this API."""

    def route(path: str, endpoint: Any, method: str) -> Route:
        return Route(path, service.answers(as_openai, endpoint), methods=[method])

    return [
        route("/v1/images/generations", generations, "POST"),
        route("/v1/images/edits", edits, "POST"),
        route("/v1/models", models, "GET"),
        route("/v1/models/{name:path}", model, "GET"),
    ]


async def generations(service: Service, http: Request) -> Response:
    """Pictures of a prompt."""
    return await _answer(service, http, await object_of(http), "image_generation")


async def edits(service: Service, http: Request) -> Response:
    """A picture that is drawn over; where a mask, or the picture itself, is transparent, if any of them is."""
    body: dict[str, Any] = {}
    for key, value in await form_of(http):
        key = key.removesuffix("[]")
        if key in body:
            raise UsageError(f"{key}: one is taken here, and several are sent; send one")
        body[key] = value
    if not isinstance(body.get("image"), InlineImage):
        raise UsageError("image: is missing; send the picture to edit as a file")
    body = await service.in_thread(lambda: _masked(body))
    return await _answer(service, http, body, "image_edit", texts=True)


def _masked(body: dict[str, Any]) -> dict[str, Any]:
    """The body whose mask is white where OpenAI's is transparent; without one, the picture's own alpha counts."""
    mask = body.get("mask")
    if mask is None:
        return {**body, "alpha_mask": "true"} if _is_transparent(body["image"].png) else body
    if not isinstance(mask, InlineImage):
        raise UsageError("mask: is no file; send a PNG whose transparent part is to be edited")
    return {**body, "mask": InlineImage(white_where_transparent(mask.png))}


def white_where_transparent(data: bytes) -> bytes:
    """A picture's transparency as a mask (L): alpha 0 is white, alpha 255 black; raises ImageError without alpha."""
    from PIL import ImageChops

    from sdcli.request.images import read_pixels
    from sdcli.request.png import encode_png

    alpha = read_pixels(io.BytesIO(data), "mask").alpha
    if alpha is None:
        raise ImageError("mask: has no transparency; its transparent part is what is edited")
    return encode_png(ImageChops.invert(alpha))


def _is_transparent(data: bytes) -> bool:
    from sdcli.request.images import extremes, read_pixels

    alpha = read_pixels(io.BytesIO(data), "image").alpha
    return alpha is not None and extremes(alpha)[0] < 255


# --- the body


@dataclass(frozen=True)
class _Wish:
    """What a body asks for beside the fields of a Request."""

    values: Mapping[str, Any]  # the fields
    format: str
    quality: int | None
    is_url: bool
    is_stream: bool
    partial: int


def _wish(service: Service, body: Mapping[str, Any]) -> _Wish:
    """A body taken apart; raises UsageError for a key, or a value, that would change the picture and is not done."""
    left = {key: value for key, value in body.items() if value is not None}
    format = _choice(left, "output_format", "png", tuple(SUFFIXES))
    compression = _number(left, "output_compression", 100, 100)
    is_url = _choice(left, "response_format", "b64_json", ("b64_json", "url")) == "url"
    is_stream = _truth(left, "stream")
    partial = _number(left, "partial_images", 0, MAX_PARTIAL)
    if _number(left, "n", 1, MAX_N, keeps=True) < 1:
        raise UsageError(f"n: is less than 1; it is 1 to {MAX_N}")
    if format == "png" and compression != 100:
        raise UsageError("output_compression: is for jpeg and webp; leave it out, or give an output_format")
    quality = None if format == "png" or (format == "webp" and compression == 100) else max(1, compression)
    values: dict[str, Any] = {}
    name = left.pop("model", None)
    if name is not None:
        if not isinstance(name, str):
            raise UsageError("model: is no text")
        if name in service.rules.served.models or not OPENAI_MODEL.fullmatch(name):
            values["model"] = name
    if left.get("input_fidelity") == "low":
        del left["input_fidelity"]
    for key, value in left.items():
        if isinstance(value, InlineImage):
            values[key] = value
            continue
        try:
            ours = body_field(key, node_of(value, 0))
        except NotReadable:
            raise UsageError(f"{key:.80}: is nested too deeply") from None
        values |= dict.fromkeys(ours, value)
    return _Wish(values, format, quality, is_url, is_stream, partial)


def _choice(body: dict[str, Any], key: str, default: str, choices: tuple[str, ...]) -> str:
    value = body.pop(key, default)
    if value not in choices:
        raise UsageError(f"{key}: {value!r:.80} is not done here; it is {' or '.join(choices)}")
    return str(value)


def _number(body: dict[str, Any], key: str, default: int, most: int, keeps: bool = False) -> int:
    """A whole number in 0 … most, which a form writes as text."""
    value = body.get(key, default) if keeps else body.pop(key, default)
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:9])
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise UsageError(f"{key}: {value!r:.80} is not a whole number up to {most}")
    return value


def _truth(body: dict[str, Any], key: str) -> bool:
    value = body.pop(key, False)
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value.lower(), value)
    if not isinstance(value, bool):
        raise UsageError(f"{key}: {value!r:.80} is not true or false")
    return value


# --- the answer


async def _answer(
    service: Service, http: Request, body: Mapping[str, Any], kind: str, texts: bool = False
) -> Response:
    wish = _wish(service, body)
    suffix = SUFFIXES[wish.format]
    asks = await service.asks(wish.values, texts=texts, suffix=suffix, quality=wish.quality)
    jobs = service.queue.submit(asks)
    if wish.is_stream:
        for job in jobs:
            job.want_previews(wish.partial)
        return EventStream(_events(jobs, kind, wish), lambda: service.queue.cancel(*jobs))
    await finished(http, service.queue, jobs)
    for job in jobs:
        if (problem := problem_of_job(job)) is not None:
            return as_openai(problem)
    results = [job.drawing.result for job in jobs]
    data = [_picture(result, wish) for result in results if result is not None]
    first = results[0]
    assert first is not None
    return JSONResponse(
        {"created": int(time.time()), "data": data, **_facts(first.size, wish), "usage": NO_USAGE}
    )


def _picture(result: Finished, wish: _Wish) -> dict[str, Any]:
    text = base64.b64encode(result.data).decode("ascii")
    where = {"url": f"data:image/{wish.format};base64,{text}"} if wish.is_url else {"b64_json": text}
    return {**where, "revised_prompt": result.request.prompt, "seed": result.request.seed}


def _facts(size: tuple[int, int], wish: _Wish) -> dict[str, Any]:
    return {
        "size": "{}x{}".format(*size),
        "quality": "auto",
        "background": "opaque",
        "output_format": wish.format,
    }


async def _events(jobs: list[Job], kind: str, wish: _Wish) -> AsyncIterator[bytes]:
    """The partial pictures and the picture of each job, one job after the other."""
    for job in jobs:
        sent = 0
        async for drawing in job.follow():
            request = drawing.ask.request
            yield KEEP_ALIVE
            for preview in drawing.previews[sent : wish.partial]:
                size = (request.width or 0, request.height or 0)
                facts = {**_facts(size, wish), "output_format": "png", "partial_image_index": sent}
                yield _event(f"{kind}.partial_image", preview, facts)
                sent += 1
        if (problem := problem_of_job(job)) is not None:
            yield event({"error": error_body(problem)}, "error")
            return
        result = job.drawing.result
        assert result is not None
        facts = {**_facts(result.size, wish), "usage": NO_USAGE, "seed": result.request.seed}
        yield _event(f"{kind}.completed", result.data, facts)


def _event(kind: str, data: bytes, facts: Mapping[str, Any]) -> bytes:
    text = base64.b64encode(data).decode("ascii")
    return event({"type": kind, "b64_json": text, "created_at": int(time.time()), **facts}, kind)


# --- models


async def models(service: Service, http: Request) -> Response:
    """The models that are served; the first is the one that OpenAI's own names stand for."""
    return JSONResponse(
        {"object": "list", "data": [_model(each) for each in service.rules.served.models.values()]}
    )


async def model(service: Service, http: Request) -> Response:
    """One model that is served."""
    return JSONResponse(_model(service.rules.served.find(http.path_params["name"])))


def _model(served: ServedModel) -> dict[str, Any]:
    return {
        "id": served.name,
        "object": "model",
        "created": 0,
        "owned_by": "sdcli",
        "family": served.found.family.name,
        "channels": served.found.family.signature.channels,
        "defaults": _defaults(served),
    }


def _defaults(served: ServedModel) -> dict[str, Any]:
    """What the model decides where a request leaves it open."""
    family, size = served.found.family, served.found.size
    names = ("steps", "cfg", "sampler", "schedule", "strength")
    return {"width": size, "height": size, **{name: getattr(family, name) for name in names}}
