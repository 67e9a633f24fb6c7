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
from sdcli.request.request import Mask, MaskEdge, Request, StartImage


@click.command(cls=GroupedCommand)
@prompt_argument
@request_options(StartImage, Mask, MaskEdge)
@output_options
def inpaint(**values: Any) -> None:
    """Repaint the part of the picture -i that is white in --mask; every other pixel stays as it is.

    Grey is repainted partly: the lighter, the more. An inpainting model sees the mask; with any other model, the
    unmasked part is put back at each step. Prints the path of each picture; nothing is ever overwritten.
    """
    options = options_given(values)
    require_picture(options)
    if "mask" not in options and "alpha_mask" not in options:
        raise UsageError(
            "no mask: name a picture with --mask, whose white part is repainted, or use --alpha-mask"
        )
    request = Request(**options)

    from sdcli.commands._draw import draw

    draw(request, Output.from_options(values))
