from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from sdcli import registry, store
from sdcli.commands._output import path_of_made
from sdcli.commands._streams import (
    check_result_can_be_written,
    print_result,
    standard_input,
    write_result,
)
from sdcli.commands._types import PATH, ModelName, PluginName
from sdcli.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

    from sdcli.request.images import OpenedImage


@click.command()
@click.argument("kind", type=PluginName("annotators"))
@click.argument("picture", type=PATH)
@click.option(
    "-m",
    "--model",
    type=ModelName(),
    default="tiny",
    help="The model to estimate with; depth needs a Stable Diffusion 2 depth model.",
)
@click.option(
    "-o", "--out", type=PATH, default=None, help="A folder or the name of a PNG; - is standard output."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def annotate(kind: str, picture: str, model: str, out: str | None, device: str, as_json: bool) -> None:
    """Make a map of a PICTURE, itself a picture, for --control and --depth.

    KIND is canny, colour, depth, grey, invert, lineart, scribble or tile, with options as in canny:low=50,high=150.
    With depth, the nearer the lighter; it alone takes a model.

    PICTURE - reads it from standard input. Prints the path of the map; nothing is ever overwritten.
    """
    registry.parse("annotators", kind)
    path = path_of_made(out, picture, kind.partition(":")[0])
    if out == "-" and as_json:
        raise UsageError("-o - writes a PNG to standard output; it does not go with --json")
    if out == "-":
        check_result_can_be_written()

    opened = _open(picture)

    from sdcli.models.memory import memory_errors
    from sdcli.request.png import encode_png

    with memory_errors(
        f"annotating {opened.image.width}x{opened.image.height} pixels",
        "use a smaller picture or --device cpu",
    ):
        annotation: Image = registry.find("annotators", kind)(opened.image, model, device)
    png = encode_png(annotation)
    if out == "-":
        write_result(png)
        return
    saved = str(store.save(png, path))
    print_result(json.dumps({"path": saved, "kind": kind, "model": model}) if as_json else saved, saved)


def _open(picture: str) -> OpenedImage:
    from sdcli.request.images import open_image

    if picture == "-":
        return open_image(standard_input("the picture"), "standard input")
    return open_image(picture)
