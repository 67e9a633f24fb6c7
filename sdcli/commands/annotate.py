from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sdcli import registry, store
from sdcli.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image


@click.command()
@click.argument("kind")
@click.argument("picture")
@click.option(
    "-m",
    "--model",
    default="tiny",
    help="The model that looks; depth needs a Stable Diffusion 2 depth model.",
)
@click.option("-o", "--out", default=None, help="A folder or a PNG's name; - is standard output.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def annotate(
    kind: str, picture: str, model: str, out: str | None, device: str, as_json: bool, debug: bool
) -> None:
    """Read something off a PICTURE, as a picture: KIND depth is how near things are.

    PICTURE - reads it from standard input. Prints the path of what it wrote; nothing is ever overwritten.
    """
    registry.check("annotators", kind)
    path = _path(out, picture, kind)
    if out == "-" and as_json:
        raise UsageError("-o - writes a PNG to standard output; it does not go with --json")

    from sdcli.request.images import open_image

    opened = open_image(sys.stdin.buffer, "standard input") if picture == "-" else open_image(picture)

    from sdcli.models.device import memory_errors

    with memory_errors(
        f"annotating {opened.image.width}x{opened.image.height} pixels",
        "use a smaller picture or --device cpu",
    ):
        made: Image = registry.find("annotators", kind)(opened.image, model, device)
    data = _png(made)
    if out == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    saved = str(store.save(data, path))
    print(json.dumps({"path": saved, "kind": kind, "model": model}) if as_json else saved)


def _path(out: str | None, picture: str, kind: str) -> Path:
    """Where the result goes: `out`, or in that folder the picture's name with the kind behind it."""
    path = Path(out or "")
    if not out or out.endswith(os.sep) or path.is_dir() or not path.suffix:
        stem = "stdin" if picture == "-" else Path(picture).stem
        return path / store.safe(f"{stem}-{kind.partition(':')[0]}", ".png")
    if path.suffix != ".png":
        raise UsageError(f"{out}: results are written as .png; name it {path.with_suffix('.png')}")
    return path


def _png(image: Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
