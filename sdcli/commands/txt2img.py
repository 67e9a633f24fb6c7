from __future__ import annotations

from typing import Any

import click

from sdcli.commands._help import GroupedCommand
from sdcli.commands._options import options_given, output_options, prompt_argument, request_options
from sdcli.commands._output import Output
from sdcli.request.request import Hires, Request


@click.command(cls=GroupedCommand)
@prompt_argument
@request_options(Hires)
@output_options
def txt2img(**values: Any) -> None:
    """Draw a picture of PROMPT.

    PROMPT - reads it from standard input. Prints the path of each picture; nothing is ever overwritten.
    """
    request = Request(**options_given(values))

    from sdcli.commands._draw import draw

    draw(request, Output.from_options(values))
