"""The engine: a Request becomes a Picture; the whole story on one page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from PIL.Image import Image
from torch import Tensor

import sdcli
from sdcli import registry
from sdcli.diffusion.sentry import sentry
from sdcli.diffusion.types import Denoise
from sdcli.networks import latents
from sdcli.networks.canvas import Canvas, canvas
from sdcli.networks.load import load
from sdcli.networks.model import Model
from sdcli.networks.place import memory_errors
from sdcli.networks.predict import predictor
from sdcli.networks.preview import preview
from sdcli.networks.text import conditions
from sdcli.request.picture import Picture
from sdcli.request.request import Request


@dataclass(frozen=True)
class Step:
    """One step of a run, as its watcher sees it, after it was taken: x stands at noise level sigma."""

    number: int  # 1 … total
    total: int
    sigma: float
    x: Tensor  # (1, 4, h/8, w/8) float32
    denoised: Tensor  # the network's estimate of the end, of the same shape
    picture: Callable[[], Image]  # the estimate decoded
    preview: Callable[[Tensor], Image]  # latents -> a soft picture of their own size, at once


Watch = Callable[[Iterator[Step]], Iterable[Step]]
"""What looks on: it passes the steps through, and may show, save, time or stop them."""


@dataclass(frozen=True)
class Result:
    """What a run leaves: the picture, the latents it was decoded from, and, for who asks how it went, the seconds
    spent by stage and whether the networks were in memory all at once or one at a time."""

    picture: Picture
    latents: Tensor
    seconds: dict[str, float]
    networks: str


def generate(request: Request, watch: Watch = iter) -> Result:
    """Make the picture that `request` asks for. What it leaves open the model decides; the seed must be given.

    Raises SdError, of the kind that says whose fault it is; see sdcli.errors.
    """
    clock = _Clock()
    with memory_errors("loading the model"):
        model = load(
            request.model, request.device, request.dtype, request.prediction, request.vae, request.revision
        )
    clock("load")
    request = model.complete(request)
    with memory_errors(f"drawing {request.width}x{request.height} pixels"):
        positive, negative = conditions(model, request)
        clock("text")
        start = canvas(model, request)
        guidance = registry.find("guidance", request.guidance)
        denoise = sentry(guidance(predictor(model, start.extra), positive, negative, request.cfg))
        x = start.x
        for step in watch(_steps(model, request, denoise, start)):
            x = step.x
        clock("steps")
        image, fallback = latents.decode(model, x)
        clock("decode")
    facts = {**model.facts, "sdcli": sdcli.__version__} | ({"fallback": fallback} if fallback else {})
    return Result(Picture(image, request, facts), x, clock.seconds, model.nets.how)


def _steps(model: Model, request: Request, denoise: Denoise, start: Canvas) -> Iterator[Step]:
    seen: list[Tensor] = [start.x]

    def remembered(x: Tensor, sigma: float) -> Tensor:
        seen[0] = denoise(x, sigma)
        return seen[0]

    sampler = registry.find("samplers", str(request.sampler))
    total = len(start.sigmas) - 1
    for i, x in enumerate(sampler(remembered, start.x, start.sigmas, start.noise), 1):
        decoded = partial(_decoded, model, seen[0])
        yield Step(i, total, start.sigmas[i], x, seen[0], decoded, partial(preview, model))


def _decoded(model: Model, x: Tensor) -> Image:
    return latents.decode(model, x)[0]


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def __call__(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = round(now - self._last, 3)
        self._last = now
