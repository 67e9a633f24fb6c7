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
from sdcli.errors import UsageError
from sdcli.request.request import Request, StartImage


@click.command(cls=GroupedCommand)
@prompt_argument
@request_options(StartImage)
@click.option(
    "--image-cfg",
    type=click.FLOAT,
    default=None,
    help="How closely an InstructPix2Pix model follows the picture.",
)
@output_options
def img2img(image_cfg: float | None, **values: Any) -> None:
    """Draw a picture of PROMPT over the picture -i: --strength says how much is redrawn.

    With an InstructPix2Pix model PROMPT says what to change: "make it winter". PROMPT - reads it from standard input,
    -i - the picture. Prints the path of each picture; nothing is ever overwritten.
    """
    options = options_given(values)
    require_picture(options)
    if image_cfg is not None:
        if "guidance" in options:
            raise UsageError("--image-cfg is an option of the guidance pix2pix; give it without --guidance")
        options["guidance"] = f"pix2pix:image_cfg={image_cfg}"
    request = Request(**options)

    from sdcli.commands._draw import draw

    draw(request, Output.from_options(values))
