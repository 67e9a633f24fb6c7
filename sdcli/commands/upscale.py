from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from sdcli.checkpoints import upscaler_file
from sdcli.commands import SERVER
from sdcli.commands._help import GroupedCommand
from sdcli.commands._options import (
    options_typed,
    output_options,
    prompt_file_option,
    request_options,
    with_settings,
)
from sdcli.commands._output import Output
from sdcli.commands._streams import print_note, print_result
from sdcli.commands._types import PATH
from sdcli.errors import ModelError, SdError, UsageError
from sdcli.request.request import Loading, Request, StartImage, Upscale, flag

if TYPE_CHECKING:
    from sdcli.commands._remote import Server


@click.command(cls=GroupedCommand)
@click.argument("pictures", metavar="PICTURE...", nargs=-1, required=True, type=PATH)
@click.option("--prompt", default=None, help="What the picture shows; - reads it from standard input.")
@prompt_file_option
@request_options(StartImage, Upscale)
@output_options
def upscale(pictures: tuple[str, ...], **values: Any) -> None:
    """Enlarge each PICTURE and draw new detail, in overlapping windows of the model's own size.

    An x4 upscaler model enlarges four times; any other model redraws the enlarged picture at a low --strength. An
    ESRGAN, Real-ESRGAN or SwinIR file enlarges without diffusion, in tiles of --window. The result is --scale times as
    wide and high, to the pixel. PICTURE - reads it from standard input. Prints the path of each picture; nothing is
    ever overwritten. Of several, one that fails is told and the others are enlarged; the exit code is then 1.
    """
    typed = options_typed(values)
    options = with_settings(typed, values)
    if "image" in options:
        raise UsageError("the picture to enlarge is the first argument; leave out -i")
    sides = [flag(name) for name in ("width", "height") if name in typed]
    if sides and "scale" in options:
        raise UsageError(f"--scale and {sides[0]} both say how large the result is; leave one of them out")
    loading = Request(**options, image=pictures[0]).loading
    server = click.get_current_context().meta.get(SERVER)
    if "model" in options and upscaler_file.find(loading.model) is not None:
        _check_no_server()
        from sdcli.commands._enlarge import output_of, used

        output = output_of(values)
        one = _enlarger(loading.model, typed, used(options), output)
    else:
        output = Output.from_options(values)
        one = _redrawer(loading, options, output, server)
    if len(pictures) > 1:
        _check_several(pictures, output)
    if len(pictures) == 1:
        one(pictures[0])
    elif failed := sum(not _done(one, picture, output) for picture in pictures):
        print_note(f"{failed} of {len(pictures)} pictures could not be enlarged")
        raise click.exceptions.Exit(1)


def _check_several(pictures: tuple[str, ...], output: Output) -> None:
    """Raise UsageError for what makes sense for one picture only."""
    if output.out == "-":
        raise UsageError("-o - writes one picture to standard output; give one, or a folder with -o")
    if pictures.count("-") > 1:
        raise UsageError("standard input is one picture; give - once")
    if output.sweep:
        raise UsageError("--sweep draws one picture in many ways; give one")


def _enlarger(
    model: str, typed: dict[str, Any], options: dict[str, Any], output: Output
) -> Callable[[str], None]:
    """What enlarges a picture by an upscaler file, which is loaded once."""
    from sdcli.commands._enlarge import Upscaler, check_options, check_output, enlarge

    check_options(typed)
    check_output(output)
    upscaler = Upscaler(model)

    def one(picture: str) -> None:
        enlarge(Request(**options, image=picture), output, "scale" in options, upscaler)

    return one


def _check_no_server() -> None:
    """Raise UsageError if a server was typed: none enlarges by an upscaler file. One of SD_SERVER is passed by."""
    parent = click.get_current_context().parent
    if parent and parent.get_parameter_source("server") is click.core.ParameterSource.COMMANDLINE:
        raise UsageError("--server draws with diffusion models; leave it out for an upscaler file")


def _redrawer(
    loading: Loading, options: dict[str, Any], output: Output, server: Server | None
) -> Callable[[str], None]:
    """What enlarges a picture by a diffusion model, which is loaded once, or by that of a server."""
    if server is not None:
        from sdcli.commands._remote import draw_remotely, served_model

        served = served_model(loading.model, server)
        defaults = _defaults(served.family, served.size, options)
        return lambda picture: draw_remotely(
            Request(**{**defaults, **options}, image=picture), output, server
        )
    from sdcli.commands._generate import draw
    from sdcli.models.cache import ModelCache

    models = ModelCache()
    checkpoint = models.checkpoint(loading)
    defaults = _defaults(checkpoint.family.name, checkpoint.size, options)

    def one(picture: str) -> None:
        for _ in draw(Request(**{**defaults, **options}, image=picture), output, models):
            pass

    return one


def _defaults(family: str, size: int, options: dict[str, Any]) -> dict[str, Any]:
    """What enlarging by a model of this family and size sets where nothing was typed; raises UsageError."""
    if family == "x4_upscaler":
        if options.get("scale", 4) != 4:
            raise UsageError(f"--scale {options['scale']:g}: an x4 upscaler enlarges 4 times; leave it out")
        defaults: dict[str, Any] = {"scale": 4.0, "window": 512}
    else:
        defaults = {"scale": 2.0, "strength": 0.3, "window": size}
    if {"width", "height"} & options.keys():
        del defaults["scale"]
    return defaults


def _done(one: Callable[[str], None], picture: str, output: Output) -> bool:
    """Enlarge one of several pictures; says why if it cannot be, and returns False. A ModelError is all pictures'."""
    try:
        one(picture)
    except ModelError:
        raise
    except SdError as error:
        line = " ".join(str(error).split())
        line = line if picture in line else f"{picture}: {line}"
        print_note("".join(c if c.isprintable() else repr(c)[1:-1] for c in line))
        if output.as_json:
            failure = {"code": error.kind, "exit": error.code, "message": line}
            print_result(json.dumps({"picture": picture, "error": failure}))
        return False
    return True
