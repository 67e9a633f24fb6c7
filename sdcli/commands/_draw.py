"""Draw: the pictures of a drawing command, here or on the server that --server names."""

from __future__ import annotations

import click

from sdcli.commands import SERVER
from sdcli.commands._output import Output
from sdcli.request.request import Request


def draw(request: Request, output: Output) -> None:
    """Draw each picture, save it and print its line. What drawing here needs is not imported for a server's picture."""
    server = click.get_current_context().meta.get(SERVER)
    if server is not None:
        from sdcli.commands._remote import draw_remotely

        draw_remotely(request, output, server)
        return

    from sdcli.commands._generate import draw as draw_here

    for _ in draw_here(request, output):
        pass
