"""Output: where the pictures of a drawing command go, and what is printed."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcli.errors import UsageError
from sdcli.request.fields import option

if TYPE_CHECKING:
    from pathlib import Path

    from sdcli.commands._terminal_pictures import Screen
    from sdcli.request.encode import Encoding
    from sdcli.request.request import Request


FORMATS = ("png", "jpg", "webp")
OUT = (
    "A folder, or a file name that may hold {prompt}, {seed}, … and ends in .png, .jpg or .webp; "
    "- is standard output."
)
FORMAT = "Format of a picture whose name does not tell: png, jpg or webp."
QUALITY = "Quality of a .jpg, 95 if not given, or of a .webp, which is without loss otherwise."
METADATA = "Write into the picture how it was made, or do not."


@dataclass(frozen=True)
class Output:
    """How many pictures are wanted, where they go and what is printed: the options of `output_options`."""

    count: int = 1
    out: str | None = option(None, "-o", "--out", type=str, path=True, help=OUT)
    format: str | None = option(None, "--format", type=str, choices=FORMATS, help=FORMAT)
    quality: int | None = option(None, "--quality", type=int, low=1, high=100, help=QUALITY)
    steps_dir: str | None = None
    filmstrip: str | None = None
    decode_steps: bool = False
    latents_out: str | None = None
    attention: str | None = None
    metadata: bool = option(True, "--metadata", type=bool, help=METADATA)
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
        """The output options among all the values of a command, and the user's settings where none was typed."""
        from sdcli.settings_file import read_settings

        options: dict[str, Any] = {each.name: values[each.name] for each in dataclasses.fields(cls)}
        if read_settings():
            from sdcli.commands._settings import fill_in_output

            options = fill_in_output(options)
        if options["metadata"] is None:
            options["metadata"] = True
        return cls(**options)

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


def path_of_made(out: str | None, picture: str, what: str) -> Path:
    """Where a PNG made of a picture goes: `out` if it names a file, else PICTURE-WHAT.png in the folder `out`.

    Raises UsageError for another suffix.
    """
    from sdcli import store

    path = Path(out or "")
    if not out or out.endswith(os.sep) or path.is_dir() or not path.suffix:
        stem = "stdin" if picture == "-" else Path(picture).stem
        return path / store.safe_name(f"{stem}-{what}", ".png")
    if path.suffix != ".png":
        raise UsageError(f"{out}: results are written as .png; name it {path.with_suffix('.png')}")
    return path
