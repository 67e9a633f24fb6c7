"""Enlarge: what `sd upscale` does with an ESRGAN-like file, which needs no prompt, no seed and no steps."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sdcli
from sdcli import store
from sdcli.checkpoints import hashes, upscaler_file
from sdcli.checkpoints.upscaler_file import UpscalerFile
from sdcli.commands._generate import check_writable
from sdcli.commands._output import Output
from sdcli.commands._streams import (
    check_result_can_be_written,
    print_note,
    print_result,
    standard_input,
    write_result,
)
from sdcli.errors import ImageError, UsageError
from sdcli.request import images
from sdcli.request.images import OpenedImage
from sdcli.request.picture import Picture
from sdcli.request.request import Request, flag

if TYPE_CHECKING:
    from PIL.Image import Image

    from sdcli.models.device import Placement
    from sdcli.models.upscaler import Upscaler as Network

USED = ("image", "model", "scale", "window", "background", "device", "dtype", "threads")
"""The fields of a Request that matter to an upscaler."""
DRAWING_OUTPUTS = {
    "steps_dir": "--steps-dir",
    "filmstrip": "--filmstrip",
    "decode_steps": "--decode-steps",
    "latents_out": "--latents-out",
    "attention": "--attention",
    "allow_slow": "--allow-slow",
}
"""Output options that are about steps, latents or attention -> how they are typed."""

DRAWING_FIELDS = (
    "seed", "variation_seed", "steps", "cfg", "sampler", "schedule", "width", "height",
)  # fmt: skip
"""Fields of a file name that such a picture has no value for."""


def check_options(options: Mapping[str, Any]) -> None:
    """Raise UsageError for a field of a Request, given by the user, that means nothing for an upscaler.

    An empty prompt, as --unconditional gives, is what an upscaler has anyway.
    """
    for name, value in options.items():
        typed = "--prompt" if name == "prompt" else flag(name)
        if name in USED or value in (None, ""):
            continue
        if name in ("width", "height"):
            raise UsageError(f"{typed}: an upscaler file enlarges by a factor; use --scale")
        raise UsageError(f"{typed} means nothing for an upscaler file, which only enlarges; leave it out")


def used(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options without the settings of the user that are about drawing."""
    return {name: value for name, value in options.items() if name in USED}


def output_of(values: Mapping[str, Any]) -> Output:
    """The output of a command; of a setting's name only the folders before a field that such a picture lacks."""
    output = Output.from_options(values)
    if values["out"] is not None or output.out is None:
        return output
    from sdcli.commands._settings import folder_before

    def is_lacking(part: str) -> bool:
        return any(f"{{{name}}}" in part for name in DRAWING_FIELDS)

    has_lacking = any(map(is_lacking, Path(output.out).parts))
    return dataclasses.replace(output, out=folder_before(output.out, is_lacking)) if has_lacking else output


class Upscaler:
    """An upscaler file, whose network is loaded when the first picture needs it."""

    def __init__(self, model: str) -> None:
        """The file that `model` names, by its path or its name; raises ModelError if it is none."""
        self.file = upscaler_file.read_header(upscaler_file.find(model) or Path(model))
        self._loaded: tuple[Network, Placement] | None = None

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What a picture records of it."""
        file = self.file
        return {"name": file.path.stem, "sha256": hashes.digest([file.path]), "scale": file.scale}

    def load(self, request: Request) -> tuple[Network, Placement]:
        """The network, and where it is, by the first request's device and number format."""
        if self._loaded is None:
            from sdcli.models import upscaler
            from sdcli.models.device import choose_device

            placement = choose_device(request.device, request.dtype, self.file.parameters, request.threads)
            self._loaded = upscaler.load(self.file, placement), placement
        return self._loaded


def enlarge(
    request: Request, output: Output, scale_given: bool = True, upscaler: Upscaler | None = None
) -> dict[str, Any]:
    """Enlarge the picture of a request by the upscaler file it names, save it, print its line; returns its facts.

    Without a given scale it is the file's own. All that can be refused is refused before torch is imported. With
    --plan, nothing is enlarged and there are no facts. `upscaler` is the file, if it was read for another picture.
    """
    check_output(output)
    upscaler = upscaler or Upscaler(str(request.model))
    file = upscaler.file
    request = request.replace(model=str(file.path), scale=request.scale if scale_given else float(file.scale))
    opened = _open(request)
    size = _size(opened, request, file)
    path = None if output.out == "-" else output.picture_path(request, _name(request))
    encoding = output.encoding(request)
    encoding.check_size(*size)
    if path is None:
        check_result_can_be_written()
    else:
        check_writable(path.parent)
    for note in _notes(opened, request, file, encoding.format):
        print_note(note)
    if output.plan:
        _print_plan(size, opened, request, file, output)
        return {}
    picture = _picture(opened, size, request, upscaler)
    facts = dict(picture.facts)
    data = picture.encoded(encoding, output.metadata)
    if path is None:
        write_result(data)
        return facts
    saved = str(store.save(data, path))
    if screen := output.find_screen():
        screen.show(picture.image)
    report = {"path": saved, "width": size[0], "height": size[1], "request": request.as_dict(), **facts}
    print_result(json.dumps(report) if output.as_json else saved, saved=saved)
    return facts


def enlarger(request: Request) -> Callable[[], Picture]:
    """What makes the picture of a recorded request; raises the SdError that files and headers can tell."""
    if not isinstance(request.image, str) or request.image == "-":
        raise ImageError("it names no picture that was enlarged, so it cannot be enlarged again")
    upscaler = Upscaler(str(request.model))
    opened = _open(request)
    return partial(_picture, opened, _size(opened, request, upscaler.file), request, upscaler)


def _picture(opened: OpenedImage, size: tuple[int, int], request: Request, upscaler: Upscaler) -> Picture:
    image, placement = _enlarged(opened, size, request, upscaler)
    facts = {
        "upscaler": upscaler.facts,
        "given": {"image": opened.sha256},
        "sdcli": sdcli.__version__,
        **placement,
    }
    return Picture(image, request, facts, opened.icc)


def check_output(output: Output) -> None:
    """Raise UsageError for output options that mean nothing for an upscaler, or contradict each other."""
    for name, typed in DRAWING_OUTPUTS.items():
        if getattr(output, name) not in (None, False):
            raise UsageError(f"{typed} means nothing for an upscaler file, which only enlarges; leave it out")
    for name in DRAWING_FIELDS:
        if f"{{{name}}}" in (output.out or ""):
            raise UsageError(
                f"-o {output.out}: a picture by an upscaler file has no {{{name}}}; use {{prompt}} or {{model}}"
            )
    if output.count > 1:
        raise UsageError("--count: an upscaler file always gives the same picture; leave it out")
    if output.out == "-" and output.as_json:
        raise UsageError("-o - writes one picture to standard output; it does not go with --json")
    output.check_show()


def _open(request: Request) -> OpenedImage:
    if request.image == "-":
        return images.open_image(standard_input("a picture"), "standard input")
    assert isinstance(request.image, str)
    return images.open_image(request.image)


def _size(opened: OpenedImage, request: Request, file: UpscalerFile) -> tuple[int, int]:
    """Width and height of the result; raises UsageError if it, or what the network gives, is too large."""
    width, height = opened.original.size
    for factor in (float(file.scale), request.scale):
        sides = round(width * factor), round(height * factor)
        if sides[0] * sides[1] > images.MAX_PIXELS or max(sides) > images.MAX_SIDE:
            raise UsageError(
                f"{opened.name}: {width}x{height} enlarged {factor:g} times is {sides[0]}x{sides[1]}, more than is "
                "written here; make it smaller first"
            )
    return sides


def _name(request: Request) -> str:
    """`{prompt}-x4`, where {prompt} is the picture's name."""
    return f"{'stdin' if request.image == '-' else '{prompt}'}-x{request.scale:g}"


def _notes(opened: OpenedImage, request: Request, file: UpscalerFile, format: str) -> list[str]:
    kept = [note for note in opened.notes if not note.startswith("transparency over")]
    notes = [f"{opened.name}: {', '.join(kept)}"] if kept else []
    if opened.alpha is not None and format == "jpg":
        notes.append("a .jpg has no transparency; the picture is saved over the colour of --background")
    if request.scale > file.scale:
        notes.append(
            f"{file.path.name} enlarges {file.scale} times; the rest to {request.scale:g} is resampled (Lanczos)"
        )
    return notes


def _enlarged(
    opened: OpenedImage, size: tuple[int, int], request: Request, upscaler: Upscaler
) -> tuple[Image, dict[str, object]]:
    """(the enlarged picture in the mode of the original, facts of the device that it was made on)."""
    from PIL.Image import Resampling

    from sdcli.models.memory import memory_errors
    from sdcli.pipeline.enlarge import TILE, enlarge_image

    network, placement = upscaler.load(request)
    colours = opened.original
    if colours.mode in ("LA", "RGBA"):
        colours = colours.convert(colours.mode[:-1])
    with memory_errors("enlarging the picture", "choose a smaller --window"):
        image = enlarge_image(colours, opened.alpha, network, placement, request.window or TILE)
        if image.size != size:
            image = image.resize(size, Resampling.LANCZOS)
    return image, placement.facts


def _print_plan(
    size: tuple[int, int], opened: OpenedImage, request: Request, file: UpscalerFile, output: Output
) -> None:
    """Print the size of the result and the number of tiles: a line, or one JSON object."""
    from sdcli.pipeline.enlarge import TILE, tiles

    side = request.window or TILE
    network = file.network
    width, height = (-(-side // network.unshuffle) for side in opened.original.size)
    count = len(tiles((height, width), network.unshuffle, side, network.grid))
    shown = "{}x{}".format(*size)
    if output.as_json:
        plan = {"size": shown, "count": 1, "picture": None, "tiles": count, "window": side}
        print_result(json.dumps({"plan": plan}))
    else:
        print_result(f"{shown}: {count} tile{'s' * (count > 1)} of at most {side}x{side} pixels, no estimate")
