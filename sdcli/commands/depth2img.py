from __future__ import annotations

from typing import Any

import click

from sdcli.commands import SERVER
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
    server = click.get_current_context().meta.get(SERVER)
    if server is not None:
        from sdcli.commands._remote import draw_remotely, served_model

        served = served_model(str(request.model), server)
        _check_takes_depth(str(request.model), served.family, served.channels)
        draw_remotely(request, Output.from_options(values), server)
        return

    from sdcli.commands._generate import draw
    from sdcli.models.cache import ModelCache

    models = ModelCache()
    checkpoint = models.checkpoint(request.loading)
    _check_takes_depth(checkpoint.name, checkpoint.family.name, checkpoint.family.signature.channels)
    for _ in draw(request, Output.from_options(values), models):
        pass


def _check_takes_depth(name: str, family: str, channels: int) -> None:
    if channels != DEPTH_MODEL_CHANNELS:
        raise ModelError(f"{name}: a {family} model takes no depth; name an SD 2 depth one with -m")
