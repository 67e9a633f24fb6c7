"""API: the routes under `/sdapi/v1/`. Options, progress, interrupt and skip are those of all of its clients, as there.

What a client asks for is drawn by A1111's conventions, as `sd txt2img --like a1111` draws it, and the pictures are byte
for byte those of the command line.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from sdcli.errors import UsageError
from sdcli.serve.a1111 import answers, controlnet, lists
from sdcli.serve.a1111.answers import as_a1111
from sdcli.serve.a1111.extras import Enlarger
from sdcli.serve.a1111.fields import values_of
from sdcli.serve.a1111.runs import Run, Runs
from sdcli.serve.a1111.sent import Sent
from sdcli.serve.a1111.settings import Settings
from sdcli.serve.pictures import picture_of
from sdcli.serve.queue import Ask
from sdcli.serve.service import Problem, Service, finished, problem_of_job
from sdcli.serve.wire import object_of

PREFIX, CONTROLNET = "/sdapi/v1", "/controlnet"
"""Where A1111 answers, and where its extension for ControlNet does."""


def routes(service: Service) -> list[BaseRoute]:
    """The routes of this API."""
    api = Api(service, Settings(service.rules.served), Runs(service.queue), Enlarger(service))

    def route(
        path: str, answer: Callable[[Request], Awaitable[Response]], method: str = "GET", prefix: str = PREFIX
    ) -> Route:
        async def endpoint(_: Service, http: Request) -> Response:
            return await answer(http)

        return Route(f"{prefix}/{path}", service.answers(as_a1111, endpoint), methods=[method])

    def listing(path: str, found: Callable[[], Any], prefix: str = PREFIX) -> Route:
        async def answer(http: Request) -> Response:
            return JSONResponse(await service.in_thread(found))

        return route(path, answer, prefix=prefix)

    def always(path: str, value: Any, method: str = "GET", prefix: str = PREFIX) -> Route:
        async def answer(http: Request) -> Response:
            return JSONResponse(value)

        return route(path, answer, method, prefix)

    return [
        route("txt2img", api.txt2img, "POST"),
        route("img2img", api.img2img, "POST"),
        route("extra-single-image", api.extra_single_image, "POST"),
        route("png-info", api.png_info, "POST"),
        route("options", api.change_options, "POST"),
        listing("options", api.settings.shown),
        route("progress", api.progress),
        route("interrupt", api.interrupt, "POST"),
        route("skip", api.skip, "POST"),
        listing("sd-models", lambda: lists.models(service.rules.served)),
        listing("samplers", lists.samplers),
        listing("schedulers", lists.schedulers),
        listing("upscalers", lists.upscalers),
        listing("loras", lists.loras),
        listing("hypernetworks", lists.hypernetworks),
        listing("embeddings", lists.embeddings),
        listing("prompt-styles", lists.prompt_styles),
        listing("memory", lists.memory),
        *(always(path, value) for path, value in lists.NOTHING.items()),
        listing("model_list", lambda: {"model_list": controlnet.titles()}, CONTROLNET),
        *(always(path, value, prefix=CONTROLNET) for path, value in controlnet.INFORMATION.items()),
        *(always(f"refresh-{what}", None, "POST") for what in ("checkpoints", "loras", "embeddings", "vae")),
    ]


@dataclass(frozen=True)
class Api:
    """What is shared by the requests to this API."""

    service: Service
    settings: Settings
    runs: Runs
    enlarger: Enlarger

    async def txt2img(self, http: Request) -> Response:
        """Pictures of a prompt."""
        return await self._draw(http, is_img2img=False)

    async def img2img(self, http: Request) -> Response:
        """Pictures drawn over a picture, or over the masked part of it."""
        return await self._draw(http, is_img2img=True)

    async def _draw(self, http: Request, is_img2img: bool) -> Response:
        body = await object_of(http)
        asks = await self._asks(body, is_img2img)
        run = Run(self.service.queue.submit(asks))
        self.runs.found.append(run)
        try:
            await finished(http, self.service.queue, run.jobs)
        finally:
            self.runs.found.remove(run)
        ends_early = run.is_interrupted or run.is_skipped
        for job in run.jobs:
            if (problem := problem_of_job(job)) is not None and not (ends_early and job.is_cancelled):
                return as_a1111(problem)
        results = [job.drawing.result for job in run.jobs if job.state == "done" and job.drawing.result]
        if not results:
            return as_a1111(Problem(409, "interrupted before a picture was done", "cancelled"))
        batch = Sent(body).whole("batch_size") or 1
        return JSONResponse(answers.pictures(results, body, run.timestamp, batch))

    async def _asks(self, body: dict[str, Any], is_img2img: bool) -> list[Ask]:
        """The pictures that a body asks for, checked."""
        sent = Sent(body)
        sent.truth("send_images", True)
        override = sent.table("override_settings")
        stays = not sent.truth("override_settings_restore_afterwards", True)
        image_cfg = sent.number("image_cfg_scale")

        def values() -> dict[str, Any]:
            found = values_of(sent, self.settings.fields(override), self.service.rules.budget, is_img2img)
            found.setdefault("model", self.settings.model.name)
            model = self.service.rules.served.find(str(found["model"]))
            if image_cfg is not None and is_img2img and model.found.family.name == "pix2pix":
                found.setdefault("guidance", f"pix2pix:image_cfg={image_cfg:.12g}")
            return found

        asks = await self.service.asks(await self.service.in_thread(values))
        if stays:
            await self.service.in_thread(lambda: self.settings.change(override))
        return asks

    async def extra_single_image(self, http: Request) -> Response:
        """A picture that is enlarged."""
        body = await object_of(http)
        return JSONResponse(await self.enlarger.answer(http, body))

    async def png_info(self, http: Request) -> Response:
        """What a picture says of how it was made."""
        value = (await object_of(http)).get("image")
        if not value:
            raise UsageError("image: is missing; send a picture as base64")
        budget = self.service.rules.budget
        found = await self.service.in_thread(lambda: answers.png_info(picture_of("image", value, budget)))
        return JSONResponse(found)

    async def change_options(self, http: Request) -> Response:
        """Options for the requests that follow."""
        values = await object_of(http)
        await self.service.in_thread(lambda: self.settings.change(values))
        return JSONResponse(None)

    async def progress(self, http: Request) -> Response:
        """How far the current request is."""
        is_skipped = http.query_params.get("skip_current_image", "false").lower() in ("true", "1")
        return JSONResponse(self.runs.told(not is_skipped))

    async def interrupt(self, http: Request) -> Response:
        """End the current request."""
        self.runs.interrupt()
        return JSONResponse({})

    async def skip(self, http: Request) -> Response:
        """End the picture that is drawn."""
        self.runs.skip()
        return JSONResponse({})
