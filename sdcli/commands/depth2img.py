from __future__ import annotations

from typing import Any

import click

from sdcli.commands._help import GroupedCommand
from sdcli.commands._options import options_given, output_options, prompt_argument, request_options
from sdcli.commands._output import Output
from sdcli.errors import ModelError, UsageError
from sdcli.request.request import Depth, Request, StartImage

DEPTH_MODEL_CHANNELS = 5  # input channels of its U-Net: four of latents and one of depth


@click.command(cls=GroupedCommand)
@prompt_argument
@request_options(StartImage, Depth)
@output_options
def depth2img(**values: Any) -> None:
    """Draw PROMPT with the depth of the picture -i, or of a map --depth, with a Stable Diffusion 2 depth model.

    Prints the path of each picture; nothing is ever overwritten.
    """
    options = options_given(values)
    if "image" not in options and "depth" not in options:
        raise UsageError("no depth: give a picture with -i, or a depth map with --depth")
    request = Request(**options)

    from sdcli.commands._generate import draw
    from sdcli.models.cache import ModelCache

    models = ModelCache()
    checkpoint = models.checkpoint(request.loading)
    if checkpoint.family.signature.channels != DEPTH_MODEL_CHANNELS:
        raise ModelError(
            f"{checkpoint.name}: a {checkpoint.family.name} model takes no depth; name an SD 2 depth one with -m"
        )
    for _ in draw(request, Output.from_options(values), models):
        pass
