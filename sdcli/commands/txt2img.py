from __future__ import annotations

from typing import Any

import click

from sdcli.commands._generate import Output, draw
from sdcli.commands._help import GroupedCommand
from sdcli.commands._options import options_given, output_options, prompt_argument, request_options
from sdcli.request.request import Hires, Request


@click.command(cls=GroupedCommand)
@prompt_argument
@request_options(Hires)
@output_options
def txt2img(**values: Any) -> None:
    """Draw a picture of PROMPT.

    PROMPT - reads it from standard input. Prints the path of each picture; nothing is ever overwritten.
    """
    for _ in draw(Request(**options_given(values)), Output.from_options(values)):
        pass
