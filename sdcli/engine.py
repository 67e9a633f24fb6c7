"""The engine: a Request becomes a Picture; the whole story on one page."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

from PIL.Image import Image
from torch import Tensor

import sdcli
from sdcli import registry
from sdcli.adapters.seamless import seamless
from sdcli.diffusion.conditioning import composed
from sdcli.diffusion.conventions import CONVENTIONS
from sdcli.diffusion.finite import check_finite
from sdcli.diffusion.replay import Call, Recording, replay
from sdcli.diffusion.types import Denoise, Predict
from sdcli.errors import UsageError
from sdcli.models.device import memory_errors
from sdcli.models.load import load
from sdcli.models.model import Model
from sdcli.pipeline import vae
from sdcli.pipeline.hires import enlarged
from sdcli.pipeline.preview import preview
from sdcli.pipeline.start import Start, canvas
from sdcli.pipeline.text import encode_prompts
from sdcli.pipeline.unet import predictor
from sdcli.request.inputs import InputImages, SizedImages, open_inputs
from sdcli.request.picture import Picture
from sdcli.request.request import Request
from sdcli.result import Clock, Result, Step, Watcher


def generate(request: Request, watch: Watcher = iter, given: InputImages | None = None) -> Result:
    """Make the picture that `request` asks for. What it leaves open the model decides; the seed must be given.

    `given` are the pictures that it names, if they are open already. Raises SdError, of the kind that says whose fault
    it is; see sdcli.errors.
    """
    clock = Clock()
    given = given or open_inputs(request)
    with memory_errors("loading the model"):
        model = load(
            request.model, request.device, request.dtype, request.prediction, request.vae, request.revision
        )
    clock("load")
    request = model.with_defaults(given.fill_in_size(request))
    layout = given.at_size(request)
    doing = f"drawing {request.width}x{request.height} pixels"
    with memory_errors(doing), seamless(model, request.tile):
        end = _run(model, request, watch, clock, layout)
        if request.hires > 1:
            larger, over, start = enlarged(model, request, end.x)
            end = _run(model, larger, watch, clock, over, start)
        image, fallback = vae.decode(model, end.shown, CONVENTIONS[request.like].truncates_pixels)
    image, told = layout.finish(image)
    clock("decode")
    facts = {**model.facts, "sdcli": sdcli.__version__, **told}
    facts |= {"given": given.facts} if given.facts else {}
    facts |= {"fallback": fallback} if fallback else {}
    picture = Picture(image, request, facts, given.icc)
    return Result(picture, end.x, clock.seconds, model.nets.how, end.sigma, end.recording)


def _run(
    model: Model,
    request: Request,
    watch: Watcher,
    clock: Clock,
    layout: SizedImages,
    begun: Tensor | None = None,
) -> _End:
    """One run of the sampler, over the pictures laid out, or over latents to start from."""
    positive, negative = encode_prompts(model, request)
    clock("text")
    start = canvas(model, request, layout, begun)
    predict, calls = _predict(model, request, start)
    guidance = registry.find("guidance", str(request.guidance))
    base = negative.parts[0].cond
    guided = guidance(composed(predict, base), positive, negative, request.cfg or 0.0)
    denoise = start.keep_unmasked(check_finite(guided))
    last = None
    for step in watch(_steps(model, request, denoise, start)):
        last = step
    clock("steps")
    return _end(start, last, calls)


def _predict(model: Model, request: Request, start: Start) -> tuple[Predict, list[Call]]:
    """The network, and where its calls are kept if the run is stopped or goes on from one that was."""
    calls: list[Call] = []
    whole = CONVENTIONS[request.like].rounds_timesteps(str(request.sampler).partition(":")[0])
    side = request.window and request.window // model.factor
    predict = predictor(model, start.beside, side, whole)
    if request.stop_after is not None or start.recording is not None:
        predict = replay(predict, start.recording, calls)
    return predict, calls


def _steps(model: Model, request: Request, denoise: Denoise, start: Start) -> Iterator[Step]:
    seen: list[Tensor] = [start.x]

    def remembered(x: Tensor, sigma: float) -> Tensor:
        seen[0] = denoise(x, sigma)
        return seen[0]

    sampler = registry.find("samplers", str(request.sampler))
    total = len(start.sigmas) - 1
    if (request.stop_after or 0) > total:
        raise UsageError(f"--stop-after {request.stop_after} is more than the {total} steps of this run")
    total = request.stop_after or total
    for i, x in enumerate(islice(sampler(remembered, start.x, start.sigmas, start.noise), total), 1):
        if start.recording is not None and i == start.recording.step:
            start.recording.check(x)
        decoded = partial(_decoded, model, seen[0], CONVENTIONS[request.like].truncates_pixels)
        yield Step(i, total, start.sigmas[i], x, seen[0], decoded, partial(preview, model))


@dataclass(frozen=True)
class _End:
    """Where a run ended: the latents to look at, and those to keep, with their level."""

    shown: Tensor
    x: Tensor
    sigma: float = 0.0
    recording: Recording | None = None


def _end(start: Start, last: Step | None, calls: list[Call]) -> _End:
    if last is not None and last.number == last.total < len(start.sigmas) - 1:
        recording = Recording(start.x, start.sigmas[0], last.x, last.number, calls)
        return _End(last.denoised, last.x, last.sigma, recording)
    x = (start.x if last is None else last.x) / math.sqrt(1 + start.sigmas[-1] ** 2)  # 1, if it ends at 0
    x = start.finish(x)
    return _End(x, x)


def _decoded(model: Model, x: Tensor, truncates: bool) -> Image:
    return vae.decode(model, x, truncates)[0]
