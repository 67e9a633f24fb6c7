from __future__ import annotations

from typing import Any

import click

from sdcli.commands._generate import Output, draw
from sdcli.commands._options import options_given, output_options, request_options, with_picture
from sdcli.errors import UsageError
from sdcli.request.request import Request


@click.command()
@click.argument("prompt")
@request_options("picture", "mask", "edge")
@output_options
def inpaint(**values: Any) -> None:
    """Repaint the part of the picture -i that is white in --mask; every other pixel stays as it is.

    Grey is repainted by that much. Inpainting models are shown the mask; others are held to the picture at each step.
    Prints the path of each picture; nothing is ever overwritten.
    """
    asked = with_picture(options_given(values))
    if "mask" not in asked and "alpha_mask" not in asked:
        raise UsageError("no mask: say with --mask FILE what is repainted (its white), or with --alpha-mask")
    for _ in draw(Request(**asked), Output.of(values)):
        pass
