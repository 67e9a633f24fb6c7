"""Generate: what the drawing commands share, from a checked Request to saved pictures and one printed line for each."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sdcli import settings, store
from sdcli.checkpoints import hub
from sdcli.checkpoints.preflight import preflight
from sdcli.checkpoints.recorded import recorded
from sdcli.commands._output import Output
from sdcli.commands._streams import (
    check_result_can_be_written,
    print_note,
    print_result,
    standard_input,
    write_result,
)
from sdcli.errors import UsageError, WriteError
from sdcli.estimate import Estimate, duration, estimate, remember
from sdcli.models.cache import ModelCache
from sdcli.request.inputs import open_inputs
from sdcli.request.png import encode_png
from sdcli.request.prompt import reading
from sdcli.request.request import Request

if TYPE_CHECKING:
    from PIL.Image import Image

    from sdcli.checkpoints.checkpoint import Checkpoint
    from sdcli.commands._terminal_pictures import Screen
    from sdcli.result import Result, Step, Watcher

TOLD_BEFORE = 60.0  # seconds of one picture from which the estimate is told before the first step
PROGRESS_INTERVAL = 5.0  # seconds between lines of progress where standard error is not a terminal
IGNORES_NEGATIVE_AT_CFG_1 = ("cfg", "cfg_interval", "cfg_rescale", "apg")
"""Guidances that do not evaluate the negative prompt at cfg 1."""


def draw(
    request: Request, output: Output, models: ModelCache | None = None, finds_named: bool = True
) -> Iterator[Result]:
    """Draw each picture, save it, print its line and yield its result.

    The request, the output paths, the model's header and the input pictures are checked before torch is imported.
    `models` holds what was read of the model's header, if it was read already. If `finds_named`, the prompts may
    name embeddings of the user's folder; a picture that is made again has those that it records.
    """
    if output.sweep or output.sheet or output.gallery:
        _draw_sweep(request, output, finds_named)
        return
    models = models or ModelCache()
    asked = request.with_seed()
    asked.nth(output.count - 1)  # raises if the last picture's seed is out of range
    embeddings = settings.network_folders("embeddings") if finds_named else ()
    request = recorded(asked, embeddings)
    _check_output(request, output)
    with hub.progress(sys.stderr.isatty() and not output.quiet):
        found = models.checkpoint(request.loading)
    is_piped = "-" in (request.image, request.mask, request.depth)
    inputs = open_inputs(request, standard_input("a picture") if is_piped else None)
    encoding = output.encoding(request)
    for note in preflight(found, request, inputs, encoding)[1]:
        print_note(note)
    expected = estimate(found, inputs.fill_in_size(request))
    if output.plan:
        _print_plan(inputs.fill_in_size(request), found, expected, output)
        return
    if expected is not None and not output.allow_slow:
        expected.check(_size(inputs.fill_in_size(request), found))
    if expected is not None and expected.seconds > TOLD_BEFORE and not output.quiet:
        print_note(f"a picture takes {expected.text()}")

    from sdcli.engine import generate

    screen = output.find_screen()
    for i in range(output.count):
        numbered = recorded(asked.nth(i), embeddings)
        result = generate(numbered, models, _watcher(numbered, output, i, screen), inputs, output.words)
        if output.latents_out:
            _save_latents(result, output.latents_out)
        path = _save_picture(result, output)
        if screen is not None:
            screen.show(result.picture.image)
        _report(result, path, _save_heat_maps(result, path, output), output)
        if i == 0:
            _warn_of_ignored_negative(result.picture.request, found.family.embeds_guidance)
            _tell_differences(request, result.picture.request, found.family.clip_skip)
            remember(found, result.picture.request, result.seconds["steps"] + result.seconds["decode"])
        yield result


def _draw_sweep(request: Request, output: Output, finds_named: bool) -> None:
    """Draw a batch of the request with each value of --sweep, and of the seeds of --count."""
    from sdcli.commands._batch import run_batch
    from sdcli.commands._batch_options import BatchOptions
    from sdcli.request.jobfile.batch_job import BatchJob
    from sdcli.request.jobfile.sweep import sweep

    texts = list(output.sweep)
    for name in (text.partition("=")[0].strip().lstrip("-").replace("-", "_") for text in texts):
        default = Request.__dataclass_fields__[name].default if name in Request.__dataclass_fields__ else None
        if getattr(request, name, None) not in (None, default, ""):
            print_note(f"--sweep {name} takes the place of {name} {getattr(request, name)}")
    if output.count > 1 and request.seed is None:
        raise UsageError("--sweep with --count needs --seed, so that the same command goes on where it ended")
    if output.count > 1:
        texts.append(f"seed={request.seed}..{request.nth(output.count - 1).seed}")

    def jobs() -> list[BatchJob]:
        return [dataclasses.replace(job, finds_embeddings=finds_named) for job in sweep(request, texts)]

    run_batch(jobs, "sweep", BatchOptions.of_sweep(output), is_typed=True)


# --- the estimate


def _print_plan(request: Request, found: Checkpoint, expected: Estimate | None, output: Output) -> None:
    """Print what the pictures would take: a line, or one JSON object."""
    size = _size(request, found)
    if output.as_json:
        facts = None if expected is None else {**dataclasses.asdict(expected), "available": None}
        if facts is not None and expected is not None and math.isfinite(expected.available):
            facts["available"] = expected.available
        print_result(json.dumps({"plan": {"size": size, "count": output.count, "picture": facts}}))
    elif expected is None:
        print_result(f"{size}: no estimate, for a test model has no file to tell its work by")
    else:
        several = f"; {output.count} pictures: {duration(expected.seconds * output.count)}"
        print_result(f"{size}: {expected.text()}{several if output.count > 1 else ''}")


def _size(request: Request, found: Checkpoint) -> str:
    """`512x768`: the size that will be drawn."""
    return f"{request.width or found.size}x{request.height or found.size}"


# --- checks before drawing


def _check_output(request: Request, output: Output) -> None:
    """Raise UsageError for output options that contradict each other, WriteError for a folder that is not writable."""
    if output.out == "-" and (output.count > 1 or output.as_json):
        raise UsageError(
            "-o - writes one picture to standard output; it goes with neither --count nor --json"
        )
    output.check_show()
    if output.words and output.out == "-":
        raise UsageError(
            "--attention writes files beside the picture, and -o - writes none; name a file with -o"
        )
    if output.latents_out and output.count > 1:
        raise UsageError("--latents-out holds one picture's latents; leave --count at 1")
    if output.out == "-":
        check_result_can_be_written()
    else:
        check_writable(output.picture_path(request).parent)
    encoding = output.encoding(request)
    if output.metadata:
        encoding.check_texts({"sd": json.dumps(request.as_dict())})
    if output.latents_out:
        check_writable(store.output_path(output.latents_out, request, ".safetensors").parent)
    if output.steps_dir:
        check_writable(store.output_folder(output.steps_dir, request))
    if output.filmstrip:
        check_writable(store.output_path(output.filmstrip, request).parent)


def check_writable(folder: Path) -> None:
    """Raise WriteError if the folder, or the nearest parent that exists, cannot be written in."""
    existing = next((path for path in (folder, *folder.absolute().parents) if path.exists()), folder)
    if not existing.is_dir():
        raise WriteError(f"{existing}: is a file, not a folder; choose another place with -o")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise WriteError(f"{existing}: permission denied; choose another folder with -o")


# --- results


def _save_picture(result: Result, output: Output) -> str:
    """Write the picture; returns its path, or - if it went to standard output."""
    request = result.picture.request
    data = result.picture.encoded(output.encoding(request), output.metadata)
    if output.out == "-":
        write_result(data)
        return "-"
    return str(store.save(data, output.picture_path(request)))


def _save_heat_maps(result: Result, path: str, output: Output) -> dict[str, str]:
    """Write a heat map for each word of --attention beside the picture; returns word -> path."""
    if not result.attention:
        return {}
    from sdcli.request.heat_map import heat_map

    beside, image = Path(path), result.picture.image
    paths = {}
    for word, shares in result.attention.items():
        texts = {"attention": word, "attention_range": f"{shares.min():.4g} {shares.max():.4g}"}
        png = encode_png(heat_map(image, shares), texts if output.metadata else {}, result.picture.icc)
        name = store.safe_name(f"{beside.stem}-attention-{word}", ".png")
        paths[word] = str(store.save(png, beside.with_name(name)))
    return paths


def _save_latents(result: Result, out: str) -> None:
    from sdcli.pipeline import latents_file

    path = store.output_path(out, result.picture.request, ".safetensors")
    store.save(latents_file.to_bytes(result.latents, result.sigma, result.recording), path)


def _report(result: Result, path: str, heat_maps: Mapping[str, str], output: Output) -> None:
    """Print the picture's line on standard output: its path, or one JSON object."""
    picture = result.picture
    if output.as_json:
        report = {
            "path": path,
            **({"attention": heat_maps} if heat_maps else {}),
            "seed": picture.request.seed,
            "request": picture.request.as_dict(),
            **picture.facts_in(output.encoding(picture.request)),
            "networks": result.networks,
            "seconds": result.seconds,
        }
        print_result(json.dumps(report), saved=path)
    elif output.out != "-":
        print_result(path, saved=path)


def _warn_of_ignored_negative(request: Request, embeds_guidance: bool) -> None:
    """Warn that the negative prompt is ignored at cfg 1, which may also be the model's own default.

    A latent consistency model, whose U-Net is told the guidance scale, has no use for it at any.
    """
    guidance = str(request.guidance).partition(":")[0]
    ignored = guidance in IGNORES_NEGATIVE_AT_CFG_1 and not str(request.sampler).endswith("cfg_pp")
    if request.negative and embeds_guidance and ignored:
        print_note("the negative prompt has no effect on a latent consistency model; leave it out")
    elif request.negative and request.cfg == 1 and ignored:
        print_note("the negative prompt has no effect at --cfg 1; try --cfg 5")


def _tell_differences(asked: Request, request: Request, own_clip_skip: int) -> None:
    """Say what the tool of --like does in such a run and we do not, and what it does not know of what was asked."""
    from sdcli.diffusion.conventions import CONVENTIONS, Run

    run = Run(
        sampler=str(request.sampler).partition(":")[0],
        schedule="" if request.sigmas else str(request.schedule).partition(":")[0],
        steps=request.steps or 0,
        over_picture=request.image is not None,
        masked=bool(request.mask is not None or request.alpha_mask or request.margins),
        rng=request.rng,
        clip_skip=request.clip_skip or own_clip_skip,
        own_clip_skip=own_clip_skip,
        words_change=reading.words_change(request.prompt, request.negative),
        is_typographic=reading.is_typographic(request.prompt + request.negative),
    )
    conventions = CONVENTIONS[request.like]
    if asked.schedule is not None and not request.sigmas and run.sampler in conventions.know_no_schedule:
        print_note(
            f"--schedule {asked.schedule} has no effect: the {run.sampler} of {request.like} knows no schedule"
        )
    if differences := conventions.differences(run):
        print_note(f"--like {request.like} is not exact here: {'; '.join(differences)}")


# --- while the steps run


def _watcher(request: Request, output: Output, i: int, screen: Screen | None) -> Watcher:
    """Watches the steps of picture i: shows progress and saves pictures of the steps, as the options ask."""

    def watch(steps: Iterator[Step]) -> Iterable[Step]:
        if output.steps_dir:
            steps = _save_steps(steps, output, request)
        if output.filmstrip:
            steps = _save_filmstrip(steps, output, request)
        if screen is not None:
            return screen.previews(steps, tells_steps=not output.quiet)
        if output.quiet:
            return steps
        label = f"{i + 1}/{output.count}" if output.count > 1 else "steps"
        return show_progress(steps, label)

    return watch


def show_progress(steps: Iterator[Step], label: str) -> Iterator[Step]:
    """Pass the steps on, and show on standard error how far they are: a bar on a terminal, else a line at times."""
    return _progress_bar(steps, label) if sys.stderr.isatty() else _progress_lines(steps, label)


def _save_steps(steps: Iterator[Step], output: Output, request: Request) -> Iterator[Step]:
    """Save two pictures of each step: the estimate of the end, and x (with the suffix -x) as it stands."""
    stem = store.output_path(None, request).stem
    folder = store.output_folder(str(output.steps_dir), request)
    for step in steps:
        name = f"{stem}-step-{step.number:0{len(str(step.total))}}"
        network_input = step.x / math.sqrt(1 + step.sigma**2)  # the scale at which the network sees x
        for suffix, image in (
            ("", _estimate(step, output)),
            ("-x", _picture_size(step.preview(network_input))),
        ):
            png = encode_png(image, compress_level=1)  # written at every step: fast matters more than small
            store.save(png, folder / f"{name}{suffix}.png")
        yield step


def _save_filmstrip(steps: Iterator[Step], output: Output, request: Request) -> Iterator[Step]:
    """Save the estimates of the steps in one picture when the last step is done."""
    from sdcli.commands._filmstrip import Filmstrip

    filmstrip = Filmstrip()
    for step in steps:
        if filmstrip.wants(step.number, step.total):
            filmstrip.add(_estimate(step, output))
        yield step
    if filmstrip.frames:
        store.save(filmstrip.encode(), store.output_path(output.filmstrip, request))


def _estimate(step: Step, output: Output) -> Image:
    """The picture that the network expects at the end: decoded by the VAE, or a soft preview, which is much faster."""
    return step.picture() if output.decode_steps else _picture_size(step.preview(step.denoised))


def _picture_size(preview: Image) -> Image:
    """A preview, which has one pixel a latent, enlarged to the size of the picture."""
    return preview.resize((preview.width * 8, preview.height * 8), resample=3)  # bicubic


def _progress_bar(steps: Iterator[Step], label: str) -> Iterator[Step]:
    from tqdm import tqdm

    with tqdm(desc=label, file=sys.stderr, leave=False, dynamic_ncols=True, unit="step") as bar:
        for step in steps:
            bar.total = step.total
            bar.update()
            yield step


def _progress_lines(steps: Iterator[Step], label: str) -> Iterator[Step]:
    begun = last_printed = time.monotonic()
    for step in steps:
        if time.monotonic() - last_printed >= PROGRESS_INTERVAL:
            last_printed = time.monotonic()
            left = (last_printed - begun) / step.number * (step.total - step.number)
            print_note(f"{label}: step {step.number} of {step.total}, {duration(left)} left")
        yield step
