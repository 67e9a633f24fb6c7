from __future__ import annotations

from typing import Any

import click

from sdcli.commands._generate import Output, draw
from sdcli.commands._options import options_given, output_options, recognised, request_options
from sdcli.errors import ModelError, UsageError
from sdcli.request.request import Request


@click.command()
@click.argument("prompt")
@request_options("picture", "depth")
@output_options
def depth2img(**values: Any) -> None:
    """Draw PROMPT with the depth of the picture -i, or of a map --depth, with a Stable Diffusion 2 depth model.

    Prints the path of each picture; nothing is ever overwritten.
    """
    asked = options_given(values)
    if "image" not in asked and "depth" not in asked:
        raise UsageError("no depth: give a picture with -i, or a depth map with --depth")
    found = recognised(asked)
    if found.family.signature.channels != 5:
        raise ModelError(
            f"{found.name}: a {found.family.name} model takes no depth; name an SD 2 depth one with -m"
        )
    for _ in draw(Request(**asked), Output.of(values)):
        pass
