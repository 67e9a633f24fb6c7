from __future__ import annotations

from typing import Any

import click

from sdcli.commands._help import GroupedCommand
from sdcli.commands._options import (
    options_given,
    output_options,
    prompt_argument,
    request_options,
    require_picture,
)
from sdcli.commands._output import Output
from sdcli.request.request import MaskEdge, Request, StartImage

_PIXELS = click.IntRange(0, 4096)


@click.command(cls=GroupedCommand)
@prompt_argument
@click.option("--left", type=_PIXELS, default=0, help="Pixels to add at the left.")
@click.option("--top", type=_PIXELS, default=0, help="Pixels to add at the top.")
@click.option("--right", type=_PIXELS, default=0, help="Pixels to add at the right.")
@click.option("--bottom", type=_PIXELS, default=0, help="Pixels to add at the bottom.")
@request_options(StartImage, MaskEdge)
@output_options
def outpaint(left: int, top: int, right: int, bottom: int, **values: Any) -> None:
    """Draw PROMPT beyond the edges of the picture -i; its own pixels stay as they are.

    Only a seam of it is redrawn, three times --mask-blur wide, in which the old pixels blend into the new. Prints the
    path of each picture; nothing is ever overwritten.
    """
    options = options_given(values)
    require_picture(options)
    options.setdefault("strength", 1.0)
    request = Request(**options, margins=f"{left},{top},{right},{bottom}")

    from sdcli.commands._draw import draw

    draw(request, Output.from_options(values))
