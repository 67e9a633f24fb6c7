from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click

from sdcli.commands._generate import Output, draw
from sdcli.commands._options import GROUPS, options_given, output_options, request_options
from sdcli.request import picture

DECIDES_LAST_BITS = ("model", "sdcli", "torch", "diffusers", "transformers", "device", "dtype", "threads")
"""Recorded facts of a run on which the last bits of its picture depend."""


@click.command()
@click.argument("png")
@click.option("--prompt", default=None, help="Another prompt; - reads it from standard input.")
@request_options(*GROUPS)
@output_options
def again(png: str, **values: Any) -> None:
    """Make a picture again from its own metadata, with changes if any are given.

    PNG - reads it from standard input. Warns on standard error of what has changed since: another model, another
    torch.
    """
    metadata = picture.read(sys.stdin.buffer, "standard input") if png == "-" else picture.read(png)
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
            print(f"sd: {png} was made with another {what}; the picture will differ", file=sys.stderr)
    for key in DECIDES_LAST_BITS:
        before, now = recorded.get(key), current.get(key)
        if before is not None and before != now:
            what = "with another model" if key == "model" else f"with {key} {before}, here it is {now}"
            print(f"sd: {png} was made {what}; the picture may differ", file=sys.stderr)
