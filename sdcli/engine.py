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
from sdcli.networks.hires import enlarged
from sdcli.networks.load import load
from sdcli.networks.model import Model
from sdcli.networks.place import memory_errors
from sdcli.networks.predict import predictor
from sdcli.networks.preview import preview
from sdcli.networks.seamless import seamless
from sdcli.networks.text import conditions
from sdcli.request.given import Given, Layout, open_given
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


def generate(request: Request, watch: Watch = iter, given: Given | None = None) -> Result:
    """Make the picture that `request` asks for. What it leaves open the model decides; the seed must be given.

    `given` are the pictures that it names, if they are open already. Raises SdError, of the kind that says whose fault
    it is; see sdcli.errors.
    """
    clock = _Clock()
    given = given or open_given(request)
    with memory_errors("loading the model"):
        model = load(
            request.model, request.device, request.dtype, request.prediction, request.vae, request.revision
        )
    clock("load")
    request = model.complete(given.sized(request))
    layout = given.laid(request)
    doing = f"drawing {request.width}x{request.height} pixels"
    with memory_errors(doing), seamless(model, request.tile):
        x = _drawn(model, request, watch, clock, layout)
        if request.hires > 1:
            larger, over, start = enlarged(model, request, x)
            x = _drawn(model, larger, watch, clock, over, start)
        image, fallback = latents.decode(model, x)
    image, told = layout.finish(image)
    clock("decode")
    facts = {**model.facts, "sdcli": sdcli.__version__, **told}
    facts |= {"given": given.facts} if given.facts else {}
    facts |= {"fallback": fallback} if fallback else {}
    return Result(Picture(image, request, facts, given.icc), x, clock.seconds, model.nets.how)


def _drawn(
    model: Model, request: Request, watch: Watch, clock: _Clock, layout: Layout, start: Tensor | None = None
) -> Tensor:
    """The finished latents of one run, over the pictures laid out, or over latents to start from."""
    positive, negative = conditions(model, request)
    clock("text")
    begin = canvas(model, request, layout, start)
    predict = predictor(model, begin.beside, request.window and request.window // model.factor)
    guidance = registry.find("guidance", str(request.guidance))
    denoise = begin.hold(sentry(guidance(predict, positive, negative, request.cfg)))
    x = begin.x
    for step in watch(_steps(model, request, denoise, begin)):
        x = step.x
    clock("steps")
    return x


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
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + now - self._last, 3)
        self._last = now
