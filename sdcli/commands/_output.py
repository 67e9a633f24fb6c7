"""Output: where the pictures of a drawing command go, and what is printed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sdcli.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from sdcli.commands._terminal_pictures import Screen
    from sdcli.request.encode import Encoding
    from sdcli.request.request import Request


@dataclass(frozen=True)
class Output:
    """How many pictures are wanted, where they go and what is printed: the options of `output_options`."""

    count: int = 1
    out: str | None = None
    format: str | None = None
    quality: int | None = None
    steps_dir: str | None = None
    filmstrip: str | None = None
    decode_steps: bool = False
    latents_out: str | None = None
    attention: str | None = None
    metadata: bool = True
    sweep: tuple[str, ...] = ()
    sheet: str | None = None
    gallery: str | None = None
    plan: bool = False
    allow_slow: bool = False
    show: bool = False
    as_json: bool = False
    quiet: bool = False

    @classmethod
    def from_options(cls, values: Mapping[str, Any]) -> Output:
        """The output options among all the values of a command."""
        return cls(**{option.name: values[option.name] for option in dataclasses.fields(cls)})

    @property
    def words(self) -> tuple[str, ...]:
        """The words of --attention; raises UsageError."""
        from sdcli.request.prompt import words

        return () if self.attention is None else words.parse(self.attention)

    def picture_path(self, request: Request, default_name: str | None = None) -> Path:
        """Where the picture of a request goes, if not to standard output; raises UsageError."""
        from sdcli import store

        suffixes = suffixes_of(self.format)
        return store.output_path(
            self.out, request, *suffixes, default_name=default_name or store.DEFAULT_NAME
        )

    def check_show(self) -> None:
        """Raise UsageError for --show where standard output is the picture's file."""
        if self.show and self.out == "-":
            raise UsageError(
                "--show draws in the terminal, and -o - writes the file there; leave one of them out"
            )

    def find_screen(self) -> Screen | None:
        """The terminal of --show; None if it is not given, or, which is said, if nothing can be drawn there."""
        if not self.show:
            return None
        from sdcli.commands._terminal_pictures import find_screen

        return find_screen()

    def encoding(self, request: Request) -> Encoding:
        """How the picture of a request is encoded; raises UsageError."""
        from sdcli.request.picture import encoding_of

        path = self.picture_path(request) if self.out != "-" else None
        return encoding_of(path.suffix if path else suffixes_of(self.format)[0], self.quality, request)


def suffixes_of(format: str | None) -> tuple[str, ...]:
    """The suffixes that the name of a picture may have."""
    from sdcli.request.encode import SUFFIXES

    if format is None:
        return tuple(SUFFIXES)
    wanted = "jpg" if format == "jpeg" else format
    if wanted not in SUFFIXES.values():
        raise UsageError(f"--format {format!r} is unknown; use png, jpg or webp")
    return tuple(suffix for suffix, each in SUFFIXES.items() if each == wanted)
