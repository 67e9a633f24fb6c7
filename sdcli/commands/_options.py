"""Options: the Request's fields as options of a command, each declared where the Request declares it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from sdcli import registry
from sdcli.checkpoints import checkpoint
from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.errors import UsageError
from sdcli.request.request import Request

OF_THE_MODEL = ("steps", "cfg", "sampler", "schedule", "guidance", "width", "height", "clip_skip", "strength")
"""Fields whose default the model brings."""
ABOUT = ("picture", "mask", "edge", "depth", "scale", "hires")
"""What some fields are about, and some commands are not."""
PLUGINS = {"sampler": "samplers", "schedule": "schedules", "guidance": "guidance"}
"""Fields that name a plugin."""

F = TypeVar("F", bound=Callable[..., Any])


def request_options(*about: str) -> Callable[[F], F]:
    """Add an option for every field of the Request that has flags and is about nothing in particular, or about one of
    these; one that is not typed arrives as None.
    """
    fields = dataclasses.fields(Request)
    return options_of(*(each.name for each in fields if each.metadata["group"] in ("", *about)))


def options_of(*names: str) -> Callable[[F], F]:
    """Add an option for each of these fields of the Request that has flags, in its order; None if it is not typed."""

    def add(command: F) -> F:
        for each in reversed(dataclasses.fields(Request)):
            told = each.metadata
            if not told["flags"] or each.name not in names:
                continue
            default = "the model's" if each.name in OF_THE_MODEL else each.default
            text = told["help"]
            if each.name in PLUGINS:
                text += f" There are: {', '.join(registry.names(PLUGINS[each.name]))}."
            if default not in (None, "", False):
                text += f" [default: {default}]"
            if told["type"] is bool:
                option = click.option(*told["flags"], each.name, is_flag=True, help=text, default=None)
            else:
                kind = {int: click.INT, float: click.FLOAT, str: click.STRING}[told["type"]]
                option = click.option(*told["flags"], each.name, type=kind, help=text, default=None)
            command = option(command)
        return command

    return add


def output_options(command: F) -> F:
    """Add the options that say how many pictures are wanted, where they go and what is told of them."""
    for option in reversed(
        [
            click.option("-c", "--count", type=click.IntRange(1, 1_000_000), default=1, show_default=True,
                         help="How many pictures; number i has seed + i, of a variation the same seed."),
            click.option("-o", "--out", default=None,
                         help="A folder, or a file name that may hold {prompt}, {seed}, …; - is standard output."),
            click.option("--steps-dir", default=None,
                         help="Save each step as pictures in here: the estimate, and the noisy x."),
            click.option("--filmstrip", default=None, help="Lay the estimates of the steps side by side in this PNG."),
            click.option("--decode-steps", is_flag=True, help="Decode the steps with the VAE: sharp, but slow."),
            click.option("--latents-out", default=None, help="Save the latents at the end in this safetensors file."),
            click.option("--metadata/--no-metadata", default=True, help="Whether the PNG tells how it was made."),
            click.option("--json", "as_json", is_flag=True, help="Print one JSON object a picture."),
            click.option("-q", "--quiet", is_flag=True, help="No progress on standard error."),
            click.option("--debug", is_flag=True, help="Show the traceback of an error."),
        ]
    ):  # fmt: skip
        command = option(command)
    return command


def options_given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Of a command's values, those of the Request's fields that were really typed; a prompt of - is read here."""
    names = {each.name for each in dataclasses.fields(Request)}
    found = {key: value for key, value in values.items() if key in names and value is not None}
    if found.get("prompt") == found.get("image") == "-":
        raise UsageError("the prompt and the picture cannot both be standard input; name a file for -i")
    if found.get("prompt") == "-":
        found["prompt"] = _standard_input()
    return found


def with_picture(asked: dict[str, Any]) -> dict[str, Any]:
    """The same; raises UsageError if no picture was named."""
    if "image" not in asked:
        raise UsageError("no picture: name the one to start from with -i")
    return asked


def recognised(asked: Mapping[str, Any]) -> Checkpoint:
    """The checkpoint that was asked for, from its header."""
    return checkpoint.read(asked.get("model", "tiny"), revision=asked.get("revision"))


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8").strip()
    except UnicodeDecodeError:
        raise UsageError(
            "the prompt on standard input is not UTF-8; check the encoding of what writes it"
        ) from None
