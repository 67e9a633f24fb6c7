"""Engine: a Request becomes a Picture; the whole story on one page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image, fromarray
from torch import Tensor

import sdcli
from sdcli import registry
from sdcli.adapters.attention_maps import AttentionMaps
from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.checkpoints.defaults import job_by
from sdcli.checkpoints.recorded import recorded
from sdcli.diffusion.conditioning import composed
from sdcli.diffusion.conventions import CONVENTIONS
from sdcli.diffusion.finite import check_finite
from sdcli.diffusion.replay import Call, Recording, replay
from sdcli.diffusion.types import Denoise, Predict
from sdcli.errors import UsageError
from sdcli.models.cache import ModelCache
from sdcli.models.device import choose_device
from sdcli.models.load import parameters
from sdcli.models.memory import memory_errors
from sdcli.models.model import Model
from sdcli.pipeline import vae
from sdcli.pipeline.adapters import JobAdapters, adapters_of, facts_of
from sdcli.pipeline.attention import check_attention, check_recorded, rows_of
from sdcli.pipeline.deepcache import check_deepcache
from sdcli.pipeline.engine_limits import check_engine, check_size
from sdcli.pipeline.hires import second_pass
from sdcli.pipeline.preview import preview
from sdcli.pipeline.reference import fidelity_of, inputs_while_writing, reference_latents, referenced
from sdcli.pipeline.rehearsal import check_stop, rehearse
from sdcli.pipeline.start import Start, start_of
from sdcli.pipeline.text import encode_prompts
from sdcli.pipeline.unet import predictor
from sdcli.pipeline.unet_inputs import UNetInputs
from sdcli.request.inputs import InputImages, SizedImages, open_inputs
from sdcli.request.job import Job
from sdcli.request.picture import Picture
from sdcli.request.request import Request
from sdcli.result import Clock, Result, Step, Watcher


def generate(
    request: Request,
    models: ModelCache | None = None,
    watch: Watcher = iter,
    inputs: InputImages | None = None,
    attention: Sequence[str] = (),
) -> Result:
    """Make the picture that `request` asks for. The model decides what it leaves open; a missing seed is drawn.

    Styles are added to the prompts, and variants in them are drawn by the seed.

    `models` keeps the model loaded for the next picture; `inputs` are the pictures that the request names, if they
    are open already. `attention` are words of the prompt whose share of the cross-attention the result holds at each
    pixel. Raises SdError of the kind that says what is at fault; see sdcli.errors.
    """
    if not isinstance(request, Request):
        raise UsageError(f"generate takes a Request, not {request!r:.40}; write generate(Request(prompt))")
    clock = Clock()
    request = recorded(request.with_seed())
    models = models or ModelCache()
    inputs = inputs or open_inputs(request)
    if not models.has(request.loading):
        _rehearse(models.checkpoint(request.loading), request, inputs, attention)
    with models.use(request.loading) as model:
        clock("load")
        job = model.with_defaults(inputs.fill_in_size(request))
        check_engine(request.engine, request.networks, job, attention)
        check_deepcache(job, request.networks, attention)
        check_attention(attention, job, model.tokenizers)
        maps = AttentionMaps(attention)
        images = inputs.at_size(job)
        doing = f"drawing {job.width}x{job.height} pixels"
        adapters = adapters_of(model, job, inputs) + JobAdapters((maps.adapted,), (maps.see,))
        with memory_errors(doing, _advice(model)), model.networks.adapted(adapters.adapters):
            end = _run(model, job, images, watch, clock, maps, adapters)
            if job.hires.hires > 1:
                larger, enlarged, latents = second_pass(model, job, images, end.x)
                end = _run(model, larger, enlarged, watch, clock, maps, adapters, latents)
            image, fallback = vae.decode(model, end.shown, CONVENTIONS[job.like].truncates_pixels)
        shares = _shares(maps, image.size, images)
        image, kept = images.finish(image)
        clock("decode")
        facts = {**model.facts, "sdcli": sdcli.__version__, **kept}
        facts |= {"given": inputs.facts} if inputs.facts else {}
        facts |= {"fallback": fallback} if fallback else {}
        facts |= facts_of(job)
        picture = Picture(image, job.request, facts, inputs.icc)
        return Result(picture, end.x, clock.seconds, model.networks.how, end.sigma, end.recording, shares)


def _advice(model: Model) -> str:
    """What to do if a picture runs out of memory."""
    streams = model.networks.streams
    return "choose a smaller --width and --height" + (
        "" if streams else ", or give --stream, which takes less"
    )


def _rehearse(found: Checkpoint, request: Request, inputs: InputImages, attention: Sequence[str]) -> None:
    """Raise the SdError of a request that cannot be drawn, as far as it is known before the networks are loaded."""
    placement = choose_device(request.device, request.dtype, parameters(found))
    job = job_by(found.family, found.size, inputs.fill_in_size(request))
    check_engine(request.engine, request.networks, job, attention)
    check_deepcache(job, request.networks, attention)
    check_size(found, request.engine, placement, job)
    check_attention(attention, job, found.tokenizers)
    rehearse(found, job, inputs)


def _run(
    model: Model,
    job: Job,
    images: SizedImages,
    watch: Watcher,
    clock: Clock,
    maps: AttentionMaps,
    adapters: JobAdapters,
    latents: Tensor | None = None,
) -> _End:
    """One run of the sampler: from noise, over the pictures, or over latents."""
    start = start_of(model, job, images, latents)
    adapters.begin(start.levels)
    clock("steps")
    positive, negative = encode_prompts(model, job, start.levels, images.inputs.region_masks)
    clock("text")
    maps.begin(rows_of(maps.words, positive, model.tokenizers), (start.x.shape[-2], start.x.shape[-1]))
    predict, calls = _predict(model, job, start, adapters, images.inputs)
    guidance = registry.find("guidance", job.guidance)
    scale = CONVENTIONS[job.like].cfg(job.cfg, job.sampler.name)
    if model.family.embeds_guidance:
        scale = 1.0
    guided = guidance(composed(predict), positive, negative, scale)
    thresholded = model.threshold.apply(guided) if model.threshold else guided
    denoise = start.keep_unmasked(check_finite(thresholded))
    last = None
    for step in watch(_steps(model, job, denoise, start)):
        last = step
    clock("steps")
    return _end(job, start, last, calls)


def _predict(
    model: Model, job: Job, start: Start, adapters: JobAdapters, inputs: InputImages
) -> tuple[Predict, list[Call]]:
    """The U-Net, and the list of its calls, which is filled if the run is stopped or goes on from a stopped one."""
    calls: list[Call] = []
    timestep = CONVENTIONS[job.like].timestep(job.sampler.name, job.schedule.name)

    def network(given: UNetInputs) -> Predict:
        return predictor(model, given, job.window // model.factor, timestep, adapters.see)

    predict = network(start.inputs)
    if adapters.reference is not None:
        adapters.reference.fidelity = fidelity_of(model, job)
        latents = reference_latents(model, job, inputs)
        write = network(inputs_while_writing(start.inputs, latents))
        predict = referenced(predict, write, adapters.reference, latents, job.seed)
    if job.stop_after or start.recording is not None:
        predict = replay(predict, start.recording, calls)
    return predict, calls


def _steps(model: Model, job: Job, denoise: Denoise, start: Start) -> Iterator[Step]:
    """The only loop of the sampler: one Step after each of its steps."""
    estimate = start.x

    def remember(x: Tensor, sigma: float) -> Tensor:
        nonlocal estimate
        estimate = denoise(x, sigma)
        return estimate

    total = len(start.sigmas) - 1
    check_stop(job, total)
    total = job.stop_after or total
    schedule = "" if job.sigmas else job.schedule.name
    sampler = CONVENTIONS[job.like].sampler(job.sampler, schedule, job.steps, model.levels)
    for number, x in enumerate(islice(sampler(remember, start.x, start.sigmas, start.noise), total), 1):
        if start.recording is not None and number == start.recording.step:
            start.recording.check(x)
        decode = partial(_decoded, model, estimate, CONVENTIONS[job.like].truncates_pixels)
        yield Step(number, total, start.sigmas[number], x, estimate, decode, partial(preview, model))


@dataclass(frozen=True)
class _End:
    """Where a run ended: the latents to decode, and the latents to keep, with their noise level."""

    shown: Tensor
    x: Tensor
    sigma: float = 0.0
    recording: Recording | None = None


def _end(job: Job, start: Start, last: Step | None, calls: list[Call]) -> _End:
    if last is not None and last.number == last.total < len(start.sigmas) - 1:  # stopped on the way
        recording = Recording(start.x, start.sigmas[0], last.x, last.number, calls)
        return _End(last.denoised, last.x, last.sigma, recording)
    x = start.x if last is None else last.x
    scale = CONVENTIONS[job.like].final_scale(start.sigmas[-1], job.sampler.name)
    x = start.finish(x / scale)
    return _End(x, x)


def _decoded(model: Model, x: Tensor, truncates: bool) -> Image:
    return vae.decode(model, x, truncates)[0]


def _shares(
    maps: AttentionMaps, size: tuple[int, int], images: SizedImages
) -> dict[str, NDArray[np.float32]]:
    """Word -> its share of the attention at each pixel of the result; `size` is (width, height) of what was drawn."""
    found = maps.maps((size[1], size[0]))
    check_recorded(maps.words, found)
    return {word: np.asarray(images.placed(fromarray(plane.numpy()))) for word, plane in found.items()}
