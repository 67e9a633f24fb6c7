"""Words elsewhere: options as other tools call them, put into ours before click sees them."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Sequence
from itertools import islice

import click

from sdcli.errors import UsageError
from sdcli.request.names_elsewhere import FIELDS, HINTS, OUTPUT

PROMPT, SIZE = "PROMPT", "SIZE"


def in_our_words(command: click.Command, arguments: Sequence[str]) -> list[str]:
    """A command's arguments with the option names of A1111, diffusers, stable-diffusion.cpp and others in our words.

    `--size 512x768` becomes width and height, `--prompt x` the argument PROMPT, and `--seed -1`, which asks for a
    random seed everywhere else, is left out. Options of the command's own are never touched. Raises UsageError for a
    word that we say in another way.
    """
    return list(_Translation(command).translate(arguments))


class _Translation:
    """The words of one command: its own options, and what becomes of others."""

    def __init__(self, command: click.Command) -> None:
        options = [each for each in command.params if isinstance(each, click.Option)]
        arguments = [each.name for each in command.params if isinstance(each, click.Argument)]
        self.own = {flag for each in options for flag in (*each.opts, *each.secondary_opts)}
        self.valued = {flag for each in options if not each.is_flag for flag in each.opts}
        self.takes_prompt = "prompt" in arguments
        self.draws = "--steps" in self.own

    def translate(self, arguments: Sequence[str]) -> Iterator[str]:
        rest = iter(arguments)
        prompts: list[str] = []
        for argument in rest:
            if argument == "--":
                yield from ("--", *prompts, *rest)
                return
            name, equals, value = argument.partition("=")
            flag = self._flag(name)
            if flag not in (*self.valued, PROMPT, SIZE):
                yield f"{flag}{equals}{value}"
                continue
            given = [value] if equals else list(islice(rest, 1))
            if flag == PROMPT:
                prompts += given
            elif flag == SIZE:
                yield from _sides(name, given)
            elif flag != "--seed" or given != ["-1"]:
                names_no_sampler = all(
                    self._flag(each.partition("=")[0]) != "--sampler" for each in arguments
                )
                if flag == "--schedule" != name and names_no_sampler and given and _is_sampler(given[0]):
                    flag = "--sampler"  # what diffusers and InvokeAI call a scheduler
                yield from [f"{flag}={given[0]}"] if equals else [flag, *given]
        if prompts:
            yield from ("--", *prompts)

    def _flag(self, name: str) -> str:
        """Our flag, PROMPT or SIZE for an option's name; the name itself if it is ours, nobody's or no option."""
        if name in self.own or not name.startswith("-"):
            return name
        if self.takes_prompt and name in ("-p", "--prompt"):
            return PROMPT
        if not name.startswith("--"):
            return name
        word = re.sub("[-_]+", "_", name.removeprefix("--").lower())
        same = f"--{word.replace('_', '-')}"
        if same in self.own:
            return same
        if word == "size" and "--width" in self.own:
            return SIZE
        flag = flags().get(word)
        if flag == "--prompt":
            return PROMPT if self.takes_prompt else name
        if flag is not None and flag not in self.own:
            raise UsageError(f"{name} is {flag} here, which this command does not take; see its --help")
        if flag is None and word in HINTS and self.draws:
            raise UsageError(f"{name} is no option here; {HINTS[word]}")
        return flag or name


def _is_sampler(label: str) -> bool:
    """True if the label names a sampler of ours."""
    from sdcli.request.aliases import names_sampler

    return names_sampler(label)


def _sides(name: str, given: Sequence[str]) -> list[str]:
    """--width and --height from `512x768`."""
    sides = re.fullmatch(r"(\d{1,5})\s*[xX×,]\s*(\d{1,5})", given[0].strip()) if given else None
    if sides is None:
        raise UsageError(
            f"{name} {' '.join(given)!r} is not width x height; try --size 512x768, or -W 512 -H 768"
        )
    return ["--width", sides[1], "--height", sides[2]]


@functools.cache
def flags() -> dict[str, str]:
    """A word of others -> our long flag."""
    from sdcli.request.fields import option_of
    from sdcli.request.request import Request

    own = {each.name: option_of(each).flags for each in dataclasses.fields(Request)}
    found = {word: own[field][-1] for word, field in FIELDS.items() if own[field]}
    found |= {word: f"--{option}" for option, words in OUTPUT.items() for word in words.split()}
    found |= {word: "--prompt" for word, field in FIELDS.items() if field == "prompt"}
    return found
