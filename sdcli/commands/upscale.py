from __future__ import annotations

from typing import Any

import click

from sdcli.checkpoints import upscaler_file
from sdcli.commands._help import GroupedCommand
from sdcli.commands._options import (
    options_typed,
    output_options,
    prompt_file_option,
    request_options,
    with_settings,
)
from sdcli.commands._output import Output
from sdcli.commands._types import PATH
from sdcli.errors import UsageError
from sdcli.request.request import Request, StartImage, Upscale, flag


@click.command(cls=GroupedCommand)
@click.argument("picture", type=PATH)
@click.option("--prompt", default=None, help="What the picture shows; - reads it from standard input.")
@prompt_file_option
@request_options(StartImage, Upscale)
@output_options
def upscale(picture: str, **values: Any) -> None:
    """Enlarge PICTURE and draw new detail, in overlapping windows of the model's own size.

    An x4 upscaler model enlarges four times; any other model redraws the enlarged picture at a low --strength. An
    ESRGAN or Real-ESRGAN file enlarges without diffusion, in tiles of --window. The result is --scale times as wide and
    high, to the pixel. PICTURE - reads it from standard input. Prints the path of
    each picture; nothing is ever overwritten.
    """
    typed = options_typed(values)
    options = with_settings(typed, values)
    if "image" in options:
        raise UsageError("the picture to enlarge is the first argument; leave out -i")
    sides = [flag(name) for name in ("width", "height") if name in typed]
    if sides and "scale" in options:
        raise UsageError(f"--scale and {sides[0]} both say how large the result is; leave one of them out")
    loading = Request(**options, image=picture).loading
    if "model" in options and upscaler_file.find(loading.model) is not None:
        from sdcli.commands._enlarge import check_options, enlarge, output_of, used

        check_options(typed)
        request = Request(**used(options), image=picture)
        enlarge(request, output_of(values), scale_given="scale" in options)
        return

    from sdcli.commands._generate import draw
    from sdcli.models.cache import ModelCache

    models = ModelCache()
    checkpoint = models.checkpoint(loading)
    if checkpoint.family.name == "x4_upscaler":
        if options.get("scale", 4) != 4:
            raise UsageError(f"--scale {options['scale']:g}: an x4 upscaler enlarges 4 times; leave it out")
        defaults = {"scale": 4.0, "window": 512}
    else:
        defaults = {"scale": 2.0, "strength": 0.3, "window": checkpoint.size}
    if sides:
        del defaults["scale"]
    for _ in draw(Request(**{**defaults, **options}, image=picture), Output.from_options(values), models):
        pass
