from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from sdcli.commands._generate import Output, draw
from sdcli.commands._options import PATH, options_given, output_options, request_options
from sdcli.commands._streams import print_note, standard_input
from sdcli.request.png_metadata import read_png_metadata
from sdcli.request.request import Depth, Hires, Mask, MaskEdge, StartImage, Upscale

DECIDES_LAST_BITS = ("model", "sdcli", "torch", "diffusers", "transformers", "device", "dtype", "threads")
"""Recorded facts of a run on which the last bits of its picture depend."""


@click.command()
@click.argument("png", type=PATH)
@click.option("--prompt", default=None, help="Another prompt; - reads it from standard input.")
@request_options(StartImage, Mask, MaskEdge, Depth, Upscale, Hires)
@output_options
def again(png: str, **values: Any) -> None:
    """Make a picture again from its own metadata, with changes if any are given.

    PNG - reads it from standard input. Warns on standard error of what has changed since: another model, another
    torch.
    """
    source, name = (standard_input("the picture"), "standard input") if png == "-" else (png, png)
    metadata = read_png_metadata(source, name)
    recorded = metadata.facts(png)
    changes = options_given(values)
    if "model" in changes:
        changes = {"revision": None, **changes}  # the recorded revision is of another repo
    for result in draw(metadata.request(png).replace(**changes), Output.from_options(values)):
        _warn_of_differences(png, recorded, result.picture.facts)


def _warn_of_differences(png: str, recorded: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Warn of each input picture and each part of the set-up that is not the recorded one."""
    for what, before in recorded.get("given", {}).items():
        if current.get("given", {}).get(what, before) != before:
            print_note(f"{png} was made with another {what}; the picture will differ")
    for key in DECIDES_LAST_BITS:
        before, now = recorded.get(key), current.get(key)
        if None not in (before, now) and before != now:
            what = "with another model" if key == "model" else f"with {key} {before}, here it is {now}"
            print_note(f"{png} was made {what}; the picture may differ")
