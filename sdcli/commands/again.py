from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click

from sdcli.commands._generate import Output, draw
from sdcli.commands._options import ABOUT, options_given, output_options, request_options
from sdcli.request import picture


@click.command()
@click.argument("png")
@click.option("--prompt", default=None, help="Another prompt; - reads it from standard input.")
@request_options(*ABOUT)
@output_options
def again(png: str, **values: Any) -> None:
    """Make a picture again from its own metadata, with changes if any are given.

    PNG - reads it from standard input. Says on standard error what is not as it was: another model, another torch.
    """
    told = picture.read(sys.stdin.buffer, "standard input") if png == "-" else picture.read(png)
    facts = told.facts(png)
    changes = options_given(values)
    if "model" in changes:
        changes = {"revision": None, **changes}  # the one it had is another repo's
    for result in draw(told.request(png).replace(**changes), Output.of(values)):
        _warn(png, facts, result.picture.facts)


def _warn(png: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Name what decides the last bits of a picture and is not what it was."""
    for what, before in then.get("given", {}).items():
        if now.get("given", {}).get(what, before) != before:
            print(f"sd: {png} was made with another {what}; the picture will differ", file=sys.stderr)
    for key in ("model", "sdcli", "torch", "diffusers", "transformers", "device", "dtype", "threads"):
        before, here = then.get(key), now.get(key)
        if before is not None and before != here:
            what = "with another model" if key == "model" else f"with {key} {before}, here it is {here}"
            print(f"sd: {png} was made {what}; the picture may differ", file=sys.stderr)
