from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sdcli.commands._batch_options import BatchOptions, batch_options
from sdcli.commands._help import GroupedCommand
from sdcli.commands._options import options_typed, request_options, settings_of_jobs
from sdcli.commands._streams import standard_input
from sdcli.commands._types import PATH
from sdcli.request.request import Depth, Hires, Mask, StartImage, Upscale


@click.command(cls=GroupedCommand)
@click.argument("files", type=PATH, nargs=-1, required=True, metavar="FILE...")
@request_options(StartImage, Mask, Depth, Upscale, Hires)
@batch_options
def batch(files: tuple[str, ...], **values: Any) -> None:
    """Draw the pictures of job files; what is drawn already is not drawn again.

    FILE is YAML, JSON, JSON lines, CSV, a prompt a line, or pictures to make again; - is standard input. What is typed
    here wins over the files; your settings fill what neither says, but not for pictures that are made again.
    """
    options = BatchOptions.from_options(values)

    from sdcli.checkpoints.lookup import find_model
    from sdcli.commands._batch import run_batch
    from sdcli.request.jobfile.read import read_jobs

    given = options_typed(values)
    settings = settings_of_jobs()

    def read_stdin() -> bytes:
        return standard_input("the job file").read()

    title = Path(files[0]).stem if files[0] != "-" else "batch"
    run_batch(lambda: read_jobs(files, read_stdin, given, find_model, settings), title, options)
