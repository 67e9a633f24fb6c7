"""Draw: what the drawing commands share, from a checked Request to pictures on the disk and a line for each."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import os
import secrets
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcli import store
from sdcli.checkpoints import checkpoint, hub
from sdcli.errors import UsageError, WriteError
from sdcli.request.inputs import open_inputs
from sdcli.request.request import Request

if TYPE_CHECKING:
    from PIL.Image import Image

    from sdcli.result import Result, Step

PATIENCE = 5.0  # seconds between lines of progress where there is no terminal


@dataclass(frozen=True)
class Output:
    """How many pictures are wanted, where they go and what is told of them; the options of `output_options`."""

    count: int = 1
    out: str | None = None
    steps_dir: str | None = None
    filmstrip: str | None = None
    decode_steps: bool = False
    latents_out: str | None = None
    metadata: bool = True
    as_json: bool = False
    quiet: bool = False
    debug: bool = False

    @classmethod
    def of(cls, values: dict[str, Any]) -> Output:
        return cls(**{each.name: values[each.name] for each in dataclasses.fields(cls)})


def draw(request: Request, output: Output) -> Iterator[Result]:
    """Draw, save and print each picture, then hand its result on. All that can be checked early is."""
    if request.seed is None:
        request = request.replace(seed=secrets.randbelow(2**32))
    request.nth(output.count - 1)  # the last seed is checked as well
    _check(request, output)
    with hub.progress(sys.stderr.isatty() and not output.quiet):
        checkpoint.read(request.model, request.prediction, request.vae, request.revision)
    given = open_inputs(request, sys.stdin.buffer)
    if request.latents_in is not None and not os.path.isfile(request.latents_in):
        raise UsageError(f"--latents-in {request.latents_in}: there is no such file")

    for note in given.notes:
        print(f"sd: {note}", file=sys.stderr, flush=True)

    from sdcli.engine import generate

    for i in range(output.count):
        with _watched(request.nth(i), output, i) as watch:
            result = generate(request.nth(i), watch, given)
        if output.latents_out:
            _save_latents(result, output.latents_out)
        _report(result, _saved(result, output), output)
        if i == 0:
            _warn(result.picture.request)
        yield result


def _check(request: Request, output: Output) -> None:
    if output.out == "-" and (output.count > 1 or output.as_json):
        raise UsageError("-o - writes one PNG to standard output; it goes with neither --count nor --json")
    if output.latents_out and output.count > 1:
        raise UsageError("--latents-out holds one picture's latents; leave --count at 1")
    if output.out != "-":
        _check_folder(store.output_path(output.out, request).parent)
    if output.latents_out:
        _check_folder(store.output_path(output.latents_out, request, ".safetensors").parent)
    if output.steps_dir:
        _check_folder(Path(output.steps_dir))
    if output.filmstrip:
        _check_folder(store.output_path(output.filmstrip, request).parent)


def _check_folder(path: Path) -> None:
    """A folder that cannot be written in is better found before the drawing than after it."""
    there = next((p for p in (path, *path.absolute().parents) if p.exists()), path)
    if not there.is_dir():
        raise WriteError(f"{there}: is a file, not a folder; choose another place with -o")
    if not os.access(there, os.W_OK | os.X_OK):
        raise WriteError(f"{there}: permission denied; choose another folder with -o")


def _saved(result: Result, output: Output) -> str:
    data = result.picture.png(output.metadata)
    if output.out == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return "-"
    return str(store.save(data, store.output_path(output.out, result.picture.request)))


def _save_latents(result: Result, out: str) -> None:
    from sdcli.pipeline import latents

    path = store.output_path(out, result.picture.request, ".safetensors")
    store.save(latents.to_file(result.latents, result.sigma, result.recording), path)


def _report(result: Result, path: str, output: Output) -> None:
    picture = result.picture
    if output.as_json:
        told = {"path": path, "seed": picture.request.seed, "request": picture.request.as_dict()}
        went = {"networks": result.networks, "seconds": result.seconds}
        print(json.dumps({**told, **picture.facts, **went}), flush=True)
    elif output.out != "-":
        print(path, flush=True)


def _warn(request: Request) -> None:
    """Of a negative prompt that decided nothing, which only the model's own default may have made so."""
    alone = str(request.guidance).partition(":")[0] in ("cfg", "cfg_interval", "cfg_rescale", "apg")
    if request.negative and request.cfg == 1 and alone and not str(request.sampler).endswith("cfg_pp"):
        print("sd: the negative prompt has no effect at --cfg 1; try --cfg 5", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _watched(request: Request, output: Output, i: int) -> Iterator[Any]:
    """A watch that shows the progress of picture i and saves its steps, as the options ask."""

    def watch(steps: Iterator[Step]) -> Iterable[Step]:
        if output.steps_dir:
            steps = _saving(steps, output, request)
        if output.filmstrip:
            steps = _filming(steps, output, request)
        if output.quiet:
            return steps
        label = f"{i + 1}/{output.count}" if output.count > 1 else "steps"
        return _bar(steps, label) if sys.stderr.isatty() else _lines(steps, label)

    yield watch


def _saving(steps: Iterator[Step], output: Output, request: Request) -> Iterator[Step]:
    stem = store.output_path(None, request).stem
    for step in steps:
        name = f"{stem}-step-{step.number:0{len(str(step.total))}}"
        seen = step.x / math.sqrt(1 + step.sigma**2)  # as the network sees it
        for suffix, image in (("", _estimate(step, output)), ("-x", _large(step.preview(seen)))):
            store.save(_png(image), Path(str(output.steps_dir)) / f"{name}{suffix}.png")
        yield step


def _filming(steps: Iterator[Step], output: Output, request: Request) -> Iterator[Step]:
    from sdcli.commands._filmstrip import Film

    film = Film()
    for step in steps:
        if film.wants(step.number, step.total):
            film.add(_estimate(step, output))
        yield step
    if film.frames:
        store.save(film.png(), store.output_path(output.filmstrip, request))


def _estimate(step: Step, output: Output) -> Image:
    return step.picture() if output.decode_steps else _large(step.preview(step.denoised))


def _large(image: Image) -> Image:
    """A preview at the size of the picture."""
    return image.resize((image.width * 8, image.height * 8), resample=3)  # bicubic


def _png(image: Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _bar(steps: Iterator[Step], label: str) -> Iterator[Step]:
    from tqdm import tqdm

    with tqdm(desc=label, file=sys.stderr, leave=False, dynamic_ncols=True, unit="step") as bar:
        for step in steps:
            bar.total = step.total
            bar.update()
            yield step


def _lines(steps: Iterator[Step], label: str) -> Iterator[Step]:
    said = time.monotonic()
    for step in steps:
        if time.monotonic() - said >= PATIENCE:
            said = time.monotonic()
            print(f"sd: {label}: step {step.number} of {step.total}", file=sys.stderr, flush=True)
        yield step
