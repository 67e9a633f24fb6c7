"""Command line: the `sd` command that asks for a request."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from sdcli.request.fields import option_of, own_fields
from sdcli.request.request import (
    Depth,
    Hires,
    Loading,
    Mask,
    MaskEdge,
    Request,
    StartImage,
    Upscale,
    parse_margins,
)

COMMANDS: Mapping[str, tuple[type, ...]] = {
    "txt2img": (Hires,),
    "img2img": (StartImage,),
    "inpaint": (StartImage, Mask, MaskEdge),
    "outpaint": (StartImage, MaskEdge),
    "depth2img": (StartImage, Depth),
    "upscale": (StartImage, Upscale),
}
"""Drawing command -> the groups of fields that it has options for, besides those of every command."""
NEEDS_PICTURE = ("img2img", "inpaint", "outpaint", "upscale")
SIDES = ("--left", "--top", "--right", "--bottom")


def command_line(request: Request) -> str:
    """The command, quoted for a POSIX shell, that asks for the same; empty if no one command can be typed so."""
    command = command_of(request)
    return "" if command is None else shlex.join(["sd", command, *_arguments(command, request)])


def command_of(request: Request) -> str | None:
    """The first drawing command that has an option for each field that is not at its default; None if none has."""
    if not _can_be_typed(request):
        return None
    asked = set(request.as_dict()) - {"prompt"}
    for command, groups in COMMANDS.items():
        known = {name for group in (Request, Loading, *groups) for name in own_fields(group)} - {"margins"}
        known |= {"margins"} if command == "outpaint" else set()
        if asked <= known and _has_what_it_needs(command, request):
            return command
    return None


def _can_be_typed(request: Request) -> bool:
    """False for texts that only Python can give: a command takes an empty one for a mistake, and - for a pipe."""
    others = (request.prompt_2, request.negative_2)
    is_prompt = request.prompt == "" or (request.prompt.strip() not in ("", "-"))
    return is_prompt and all(text is None or text.strip() for text in others)


def _has_what_it_needs(command: str, request: Request) -> bool:
    if command == "inpaint" and request.mask is None and not request.alpha_mask:
        return False
    if command == "outpaint" and (request.margins is None or request.strength is None):
        return False  # outpaint's own default of the strength is 1
    return command not in NEEDS_PICTURE or request.image is not None


def _arguments(command: str, request: Request) -> Iterator[str]:
    """The prompt or the picture, then the options in the order of --help; what begins with - comes behind --."""
    positional, options = _positional(command, request)
    behind = [text for text in positional if text.startswith("-") and text != "-"]
    yield from (text for text in positional if text not in behind)
    yield from options
    own = {"prompt", "margins", *({"image"} if command == "upscale" else ())}
    for declared in dataclasses.fields(Request):
        value = getattr(request, declared.name)
        if declared.name not in own and value != declared.default:
            yield from _typed_option(declared, value)
    if behind:
        yield from ("--", *behind)


def _positional(command: str, request: Request) -> tuple[list[str], list[str]]:
    """The arguments without an option's name, and the options that stand for what is no field."""
    if command == "upscale":
        return [_typed(request.image)], ["--prompt", request.prompt] if request.prompt else [
            "--unconditional"
        ]
    sides: list[str] = []
    if request.margins is not None:
        pixels = zip(SIDES, parse_margins(request.margins), strict=True)
        sides = [text for side, number in pixels if number for text in (side, str(number))]
    return ([request.prompt], sides) if request.prompt else ([], ["--unconditional", *sides])


def _typed_option(declared: dataclasses.Field[Any], value: Any) -> Iterator[str]:
    option = option_of(declared)
    if option.type is bool:
        yield option.flags[-1] if value else option.off
        return
    for each in value if option.many else (value,):
        text = _typed(each)
        yield from (f"{option.flags[-1]}={text}",) if text.startswith("-") else (option.flags[-1], text)


def _typed(value: Any) -> str:
    """A value as it is typed: 7 for 7.0; an image that was given in Python is read from standard input."""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return value if isinstance(value, str) else str(value) if isinstance(value, int) else "-"
