"""Options: the fields of a Request as options of a command; each is declared once, at the Request."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from sdcli import registry
from sdcli.commands._output import FORMAT, FORMATS, METADATA, OUT, QUALITY
from sdcli.commands._streams import standard_input
from sdcli.commands._types import PATH, ModelName, NetworkName, PluginName, SweepText, Text, Word
from sdcli.errors import UsageError
from sdcli.home import expand_home
from sdcli.request.fields import option_of, own_fields
from sdcli.request.request import Loading, Request

F = TypeVar("F", bound=Callable[..., Any])


def request_options(*groups: type) -> Callable[[F], F]:
    """Decorate a command with an option for each field with flags: Request's own, those of these groups, the model's.

    `--help` lists them in that order. An option that is not given has the value None.
    """
    options = options_of(*(name for group in (Request, *groups, Loading) for name in own_fields(group)))
    no_prompt = click.option("--unconditional", is_flag=True, help="Draw without a prompt.")
    return lambda command: no_prompt(options(command))


def options_of(*names: str) -> Callable[[F], F]:
    """Decorate a command with an option for each of these fields of the Request that has flags, in this order.

    An option that is not given has the value None.
    """
    fields = {each.name: each for each in dataclasses.fields(Request)}
    return _options([fields[name] for name in names])


def options_of_class(values: type) -> Callable[[F], F]:
    """Decorate a command with an option for each field of a dataclass; one that is not given has the value None."""
    return _options(dataclasses.fields(values))


def _options(fields: Sequence[dataclasses.Field[Any]]) -> Callable[[F], F]:
    declared = [field for field in fields if option_of(field).flags]

    def decorate(command: F) -> F:
        for field in reversed(declared):  # the decorator applied last is listed first in --help
            command = _click_option(field)(command)
        return command

    return decorate


def _click_option(field: dataclasses.Field[Any]) -> Callable[[F], F]:
    option, text = option_of(field), _help(field)
    if option.type is bool:
        flags = [*option.flags[:-1], f"{option.flags[-1]}/{option.off}"] if option.off else option.flags
        return click.option(*flags, field.name, is_flag=True, help=text, default=None)
    types = {int: click.INT, float: click.FLOAT, str: click.STRING}
    kind = _text_type(field) or types[option.type]
    many = {"multiple": True} if option.many else {"default": None}
    return click.option(*option.flags, field.name, type=kind, help=text, **many)


def _text_type(field: dataclasses.Field[Any]) -> Text | None:
    """The type of a text that a shell can complete; None for others."""
    option = option_of(field)
    if field.name == "model":
        return ModelName()
    if option.plugin:
        return PluginName(option.plugin)
    if option.choices:
        return Word(option.choices)
    if field.name in ("lora", "hypernet", "control"):
        return NetworkName(f"{field.name}s")
    return PATH if option.path or option.picture else None


def _help(field: dataclasses.Field[Any]) -> str:
    """The field's help, followed by the plugins it can name and by its default."""
    option = option_of(field)
    text = option.help
    if option.plugin:
        text += f" One of: {', '.join(registry.names(option.plugin))}."
    default = "the model's" if option.from_model else field.default
    return text if default in (None, "", False, ()) else f"{text} [default: {default}]"


def output_options(command: F) -> F:
    """Decorate a command with the options that say how many pictures are wanted, where they go and what is printed."""
    for option in reversed(
        [
            click.option("-c", "--count", type=click.IntRange(1, 1_000_000), default=1, show_default=True,
                         help="How many pictures. Picture i has seed + i; with --variation-seed, that is counted up "
                              "instead."),
            click.option("-o", "--out", type=PATH, default=None, help=OUT),
            click.option("--format", type=Word(FORMATS), default=None, help=FORMAT),
            click.option("--quality", type=click.IntRange(1, 100), default=None, help=QUALITY),
            click.option("--steps-dir", type=PATH, default=None,
                         help="Save two pictures of each step in this folder: the estimate, and the noisy x."),
            click.option("--filmstrip", type=PATH, default=None,
                         help="Save the estimates of the steps side by side in this PNG."),
            click.option("--decode-steps", is_flag=True,
                         help="Decode the pictures of the steps with the VAE: sharp, but slow."),
            click.option("--latents-out", type=PATH, default=None,
                         help="Save the final latents in this safetensors file."),
            click.option("--attention", metavar="WORDS", default=None,
                         help="Save a heat map for each of these words, such as cat,hat: where each is seen."),
            click.option("--metadata/--no-metadata", default=None, help=METADATA),
            click.option("--sweep", type=SweepText(), multiple=True, metavar="FIELD=VALUES",
                         help="Draw a picture for each value, such as cfg=4..10 by 2 or sampler=euler,ddim; several "
                              "multiply. Runs again, it draws what is missing."),
            click.option("--sheet", type=PATH, default=None, metavar="PNG",
                         help="Save labelled contact sheets of --sweep in this PNG."),
            click.option("--gallery", type=PATH, default=None, metavar="HTML",
                         help="Save a page to look at the pictures of --sweep in this HTML."),
            click.option("--plan", is_flag=True,
                         help="Tell how long the pictures would take and how much memory, and draw nothing."),
            click.option("--allow-slow", is_flag=True,
                         help="Draw a picture even if it would take hours, or more memory than is free."),
            click.option("--show", is_flag=True,
                         help="Show each picture in the terminal, and previews of it while it is drawn: in kitty, "
                              "Ghostty, WezTerm, iTerm2, VS Code, mintty, or by blocks in 24-bit colour."),
            click.option("--json", "as_json", is_flag=True, help="Print one JSON object per picture."),
            click.option("-q", "--quiet", is_flag=True, help="Show no progress on standard error."),
        ]
    ):  # fmt: skip
        command = option(command)
    return command


def options_given(values: Mapping[str, Any]) -> dict[str, Any]:
    """The Request's fields among a command's values that the user typed or, in settings, chose once.

    A prompt of - is read from standard input.
    """
    return with_settings(options_typed(values), values)


def with_settings(typed: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The fields that were typed, and the user's settings of those among `names` that were not."""
    from sdcli.settings_file import read_settings

    if not read_settings():
        return typed

    from sdcli.commands._settings import fill_in

    return fill_in(typed, names)


def settings_of_jobs() -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """What the user's settings, which are read and checked once, add to the fields that a job states."""
    chosen = with_settings({}, [each.name for each in dataclasses.fields(Request)])

    def added(stated: Mapping[str, Any]) -> dict[str, Any]:
        if not chosen:
            return {}
        from sdcli.commands._settings import means_already

        left = means_already(stated)
        return {name: value for name, value in chosen.items() if name not in stated and name not in left}

    return added


def options_typed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The Request's fields among a command's values that the user typed. A prompt of - is read from standard input."""
    names = {field.name for field in dataclasses.fields(Request)}
    options = {name: value for name, value in values.items() if name in names and value not in (None, ())}
    if values.get("prompt_file") is not None:
        options["prompt"] = _prompt_of_file(values["prompt_file"], options.get("prompt", ""))
    if values.get("unconditional"):
        options["prompt"] = _no_prompt(options)
    elif "prompt" in options and not _sweeps_prompt(values):
        _check_prompt(options["prompt"])
    if options.get("prompt") == options.get("image") == "-":
        raise UsageError("the prompt and the picture cannot both be standard input; name a file for -i")
    if options.get("prompt") == "-":
        options["prompt"] = _read_prompt()
        _check_prompt(options["prompt"])
    return options


def prompt_argument(command: F) -> F:
    """Decorate a command with the argument PROMPT, which may be left out with --unconditional or --prompt-file."""
    return click.argument("prompt", default="", metavar="PROMPT")(prompt_file_option(command))


def prompt_file_option(command: F) -> F:
    """Decorate a command with the option --prompt-file."""
    help = "Read the prompt from this file; - is standard input."
    return click.option("--prompt-file", type=PATH, default=None, help=help)(command)


def _no_prompt(options: Mapping[str, Any]) -> str:
    if options.get("prompt"):
        raise UsageError("--unconditional draws without a prompt, and there is one; leave one of them out")
    return ""


def _sweeps_prompt(values: Mapping[str, Any]) -> bool:
    return any(text.partition("=")[0].strip() == "prompt" for text in values.get("sweep", ()))


def _check_prompt(prompt: str) -> None:
    """Raise UsageError for an empty prompt: it is most often a variable of a script that was not set."""
    if not prompt.strip():
        raise UsageError("no prompt: say what to draw, or give --unconditional to draw without a prompt")


def _prompt_of_file(path: str, prompt: str) -> str:
    """The text of a file, or - for standard input; raises UsageError if there is another prompt."""
    if prompt:
        raise UsageError(f"--prompt-file {path} is a prompt, and there is another; leave one of them out")
    if path == "-":
        return "-"
    try:
        return Path(expand_home(path)).read_text(encoding="utf-8-sig").strip()
    except FileNotFoundError:
        raise UsageError(f"--prompt-file {path}: there is no such file; check the path") from None
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise UsageError(f"--prompt-file {path}: cannot be read: {reason}; check the path") from None
    except UnicodeDecodeError:
        raise UsageError(f"--prompt-file {path}: is not UTF-8; save the file as that") from None


def require_picture(options: Mapping[str, Any]) -> None:
    """Raise UsageError if no picture to start from is named."""
    if "image" not in options:
        raise UsageError("no picture: name the one to start from with -i")


def _read_prompt() -> str:
    try:
        return standard_input("the prompt").read().decode("utf-8").strip()
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise UsageError(f"the prompt on standard input cannot be read: {reason}; type the prompt") from None
    except UnicodeDecodeError:
        raise UsageError(
            "the prompt on standard input is not UTF-8; check the encoding of the program that writes it"
        ) from None
