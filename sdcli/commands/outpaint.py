from __future__ import annotations

from typing import Any

import click

from sdcli.commands._generate import Output, draw
from sdcli.commands._options import options_given, output_options, request_options, with_picture
from sdcli.request.request import Request

_PIXELS = click.IntRange(0, 4096)


@click.command()
@click.argument("prompt")
@click.option("--left", type=_PIXELS, default=0, help="Pixels to add at the left.")
@click.option("--top", type=_PIXELS, default=0, help="Pixels to add at the top.")
@click.option("--right", type=_PIXELS, default=0, help="Pixels to add at the right.")
@click.option("--bottom", type=_PIXELS, default=0, help="Pixels to add at the bottom.")
@request_options("picture", "edge")
@output_options
def outpaint(left: int, top: int, right: int, bottom: int, **values: Any) -> None:
    """Draw on beyond the edges of the picture -i, as PROMPT says; its own pixels stay as they are.

    All but those of the seam, three times --mask-blur wide, where old and new run into each other. Prints the path of
    each picture; nothing is ever overwritten.
    """
    asked = with_picture(options_given(values))
    asked.setdefault("strength", 1.0)
    request = Request(**asked, margins=f"{left},{top},{right},{bottom}")
    for _ in draw(request, Output.of(values)):
        pass
