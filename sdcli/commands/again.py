from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import click

from sdcli.batch.reasons import ADAPTERS, DECIDES_LAST_BITS
from sdcli.checkpoints.embeddings import still_named
from sdcli.checkpoints.lookup import find_model, is_here, moved
from sdcli.checkpoints.other_networks import with_names_here, with_networks_of
from sdcli.commands._help import GroupedCommand
from sdcli.commands._options import (
    options_typed,
    output_options,
    prompt_file_option,
    request_options,
    with_settings,
)
from sdcli.commands._output import Output
from sdcli.commands._streams import print_note, standard_input
from sdcli.commands._types import PATH
from sdcli.request.other_tools.reading import OtherPicture
from sdcli.request.other_tools.recognise import recognise
from sdcli.request.png_metadata import read_png_metadata
from sdcli.request.prepare import retyped, with_what_follows
from sdcli.request.request import Depth, Hires, Mask, MaskEdge, Request, StartImage, Upscale


@click.command(cls=GroupedCommand)
@click.argument("png", type=PATH)
@click.option("--prompt", default=None, help="Another prompt; - reads it from standard input.")
@prompt_file_option
@request_options(StartImage, Mask, MaskEdge, Depth, Upscale, Hires)
@output_options
def again(png: str, **values: Any) -> None:
    """Make a picture again from its own metadata, with changes if any are given.

    PNG - reads it from standard input. Warns on standard error of what has changed since: another model, another
    torch. Of your settings, only the device and those of the output count. A picture of A1111, ComfyUI, InvokeAI,
    NovelAI, Fooocus, SwarmUI, Easy Diffusion, Draw Things or stable-diffusion.cpp is made again as far as its metadata
    tells, with --like; each thing that could not be taken over is named. Name the model with -m if it is in no model
    folder.
    """
    source, name = (standard_input("the picture"), "standard input") if png == "-" else (png, png)
    metadata = read_png_metadata(source, name)
    changes = options_typed(values)
    if "sd" not in metadata.texts and (other := recognise(metadata.texts, (metadata.width, metadata.height))):
        _draw_other(png, other, with_settings(changes, ["device"]), Output.from_options(values))
        return
    recorded = metadata.facts(png)
    if metadata.request(png).device == "auto":
        changes = with_settings(changes, ["device"])
    changes = with_what_follows(changes)
    if "upscaler" in recorded:
        from sdcli.commands._enlarge import output_of

        _enlarge_again(png, recorded, metadata.request(png), changes, output_of(values))
        return
    request = _with_found_model(retyped(metadata.request(png), changes), recorded, changes)
    request = request if "embedding" in changes else still_named(request)

    from sdcli.commands._generate import draw

    for result in draw(request, Output.from_options(values), finds_named="prompt" in changes):
        _warn_of_differences(png, recorded, result.picture.facts)


def _with_found_model(request: Request, recorded: Mapping[str, Any], changes: Mapping[str, Any]) -> Request:
    """The request; its model, if that is not where it was, is found by the hash that the picture records."""
    if "model" in changes or is_here(request.model):
        return request
    model = moved(request.model, recorded)
    if model is None:
        return request
    print_note(f"{request.model} is not here any more; {model} has the same hash")
    return request.replace(model=model)


def _enlarge_again(
    png: str, recorded: Mapping[str, Any], request: Request, changes: Mapping[str, Any], output: Output
) -> None:
    """Enlarge by an upscaler again, and say what has changed since."""
    from sdcli.commands._enlarge import check_options, enlarge

    check_options(changes)
    sizes = {"width", "height", "revision"}  # made None where another scale or model is asked for
    changes = {name: value for name, value in changes.items() if name not in sizes}
    facts = enlarge(request.replace(**changes), output)
    if facts and facts["upscaler"] != recorded["upscaler"]:
        print_note(f"{png} was made with another upscaler; the picture will differ")
    _warn_of_differences(png, recorded, facts)


def _draw_other(png: str, other: OtherPicture, changes: Mapping[str, Any], output: Output) -> None:
    """Draw another tool's picture again, and say what of it could not be taken over."""
    other = with_names_here(other)
    changes, left = with_networks_of(other, changes)
    request = other.again(png, changes, find_model)
    for key, value in left.items():
        print_note(f"{png}: not taken over from {other.tool}: {key}: {value}")

    from sdcli.commands._generate import draw

    for result in draw(request, output):
        drawn_with = str(result.picture.facts.get("model", {}).get("sha256", ""))
        if re.fullmatch("[0-9a-f]{10,64}", other.model_hash) and not drawn_with.startswith(other.model_hash):
            print_note(f"{png} was made with another model; the picture may differ")
        hashes = {**{lora.name: lora.hash for lora in other.loras}, **other.lora_hashes}
        for name, lora in result.picture.facts.get("loras", {}).items():
            known = hashes.get(name, "").lower().removeprefix("0x")
            is_hash = re.fullmatch("[0-9a-f]{8,64}", known)  # InvokeAI's are of another kind
            if is_hash and not any(str(lora[key]).startswith(known[:12]) for key in ("autov3", "sha256")):
                print_note(f"{png} was made with another LoRA {name}; the picture will differ")


def _warn_of_differences(png: str, recorded: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Warn of each input picture and each part of the set-up that is not the recorded one."""
    for what, before in recorded.get("given", {}).items():
        if current.get("given", {}).get(what, before) != before:
            print_note(f"{png} was made with another {what}; the picture will differ")
    for kind, what in ADAPTERS.items():
        before, now = recorded.get(kind, {}), current.get(kind, {})
        for name in {**before, **now}:
            if before.get(name) != now.get(name):
                how = "without" if name not in before else "with" if name not in now else "with another"
                print_note(f"{png} was made {how} {what} {name}; the picture will differ")
    for key in DECIDES_LAST_BITS:
        before, now = recorded.get(key), current.get(key)
        if None not in (before, now) and before != now:
            what = "with another model" if key == "model" else f"with {key} {before}, here it is {now}"
            print_note(f"{png} was made {what}; the picture may differ")
