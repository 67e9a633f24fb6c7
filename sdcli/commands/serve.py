from __future__ import annotations

import dataclasses
import signal
from typing import Any

import click

from sdcli.commands._interrupted import Interrupted
from sdcli.commands._options import options_of, with_settings
from sdcli.commands._streams import print_note, print_result
from sdcli.commands._types import PATH, ModelName
from sdcli.errors import UsageError
from sdcli.request.fields import own_fields
from sdcli.request.request import Loading

PACKAGES = ("starlette", "uvicorn", "multipart")
OWN = ("model", "revision", "device")  # fields that are options of this command in another way, or none


@click.command()
@click.option(
    "-m",
    "--model",
    "models",
    type=ModelName(),
    multiple=True,
    help="Model that is served: as -m of sd txt2img. Repeatable; the first is taken by default.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; other machines need a token.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=7860,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--token-file",
    type=PATH,
    default=None,
    help="File that holds the token: who asks sends it as Bearer, or as the password of Basic.",
)
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="HOST",
    help="Answer requests for this Host too, such as that of a proxy. Repeatable.",
)
@click.option(
    "--allow-origin",
    "origins",
    multiple=True,
    metavar="ORIGIN",
    help="Let pages of this origin, as https://example.org, ask too. Repeatable.",
)
@click.option(
    "--queue",
    "places",
    type=click.IntRange(1, 1000),
    default=16,
    show_default=True,
    help="Pictures that may wait; more are refused for the moment.",
)
@click.option(
    "--max-side",
    type=click.IntRange(64, 8192),
    default=2048,
    show_default=True,
    help="Largest side of a picture in pixels.",
)
@click.option(
    "--device",
    "devices",
    multiple=True,
    metavar="DEVICE",
    help="Device: auto, cpu, cuda or cuda:N. Given several times, each draws its own pictures.",
)
@options_of(*(name for name in own_fields(Loading) if name not in OWN))
def serve(
    models: tuple[str, ...],
    host: str,
    port: int,
    token_file: str | None,
    hosts: tuple[str, ...],
    origins: tuple[str, ...],
    places: int,
    max_side: int,
    devices: tuple[str, ...],
    **values: Any,
) -> None:  # fmt: skip
    """Draw for other programs over HTTP, with the model loaded once.

    It speaks OpenAI's images API, A1111's and its own, and has a page for a browser; see docs/serve.md. Prints its
    address when it is ready; Ctrl-C ends it.
    """
    typed = {name: value for name, value in values.items() if value is not None}
    if models:
        typed["model"] = models[0]
    loading = Loading(**with_settings(typed, [each.name for each in dataclasses.fields(Loading)]))
    from sdcli.commands._remote import read_token

    token = read_token(token_file) if token_file else ""
    _check_packages()

    from sdcli.serve.budget import Budget
    from sdcli.serve.run import Server, run
    from sdcli.serve.security import Rules, is_loopback

    if not token and not is_loopback(host):
        raise UsageError(
            f"--host {host}: other machines can reach it; name the file of a token with --token-file"
        )
    number = run(
        Server(
            models or (loading.model,),
            loading,
            port,
            devices or (loading.device,),
            places,
            Budget(max_side),
            Rules(host.strip("[]"), hosts, tuple(origin.rstrip("/") for origin in origins), token),
        ),
        print_result,
        print_note,
    )
    if number == signal.SIGINT:
        raise Interrupted(
            "interrupted; the server has ended, and the pictures that it had not finished are lost"
        )
    raise click.exceptions.Exit(128 + number)  # by which the process ends at once, whatever its threads do


def _check_packages() -> None:
    """Raise UsageError if the packages of the extra `serve` are missing."""
    from importlib.util import find_spec

    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise UsageError(f"sd serve needs {', '.join(missing)}; run: pip install 'sdcli[serve]'")
