"""Terminal pictures: pictures drawn in the terminal for `--show`, in the way that it understands.

https://sw.kovidgoyal.net/kitty/graphics-protocol/ and https://iterm2.com/documentation-images.html
"""

from __future__ import annotations

import base64
import io
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from PIL import Image

from sdcli.commands._streams import terminal, write_terminal

if TYPE_CHECKING:
    from sdcli.result import Step

MAX_COLUMNS = 64  # of a picture
LINES_LEFT = 4  # lines of the terminal that a picture leaves to others
CELL = 16  # pixels of a picture that are sent for a column, at most
CHUNK = 4096  # bytes of base64 in one sequence of kitty's
PREVIEW_INTERVAL = 0.5  # seconds between two previews, at least
PREVIEW_ID = 31  # kitty's number of the image that previews replace
ESCAPE = "\x1b"
_KITTY_TERMS = ("xterm-kitty", "xterm-ghostty")
_KITTY_PROGRAMS = ("WezTerm", "ghostty")
_ITERM2_PROGRAMS = ("iTerm.app", "vscode", "mintty")


def protocol(environment: Mapping[str, str], is_terminal: bool) -> str | None:
    """How pictures are drawn: `kitty`, `iterm2` or `half_blocks`; None where they cannot be, and for a pipe.

    The terminal is known by its environment alone; it is never asked, for its answer would be read as typed.
    """
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if not is_terminal or term == "dumb":
        return None
    if environment.get("KITTY_WINDOW_ID") or term in _KITTY_TERMS or program in _KITTY_PROGRAMS:
        return "kitty"
    if program in _ITERM2_PROGRAMS or environment.get("LC_TERMINAL") == "iTerm2":
        return "iterm2"
    has_colours = environment.get("COLORTERM") in ("truecolor", "24bit") or environment.get("WT_SESSION")
    return "half_blocks" if has_colours and not environment.get("NO_COLOR") else None


def rows_of(size: tuple[int, int], columns: int) -> int:
    """Lines that a picture of this size takes in so many columns: a cell is twice as high as wide."""
    return max(round(size[1] / size[0] * columns / 2), 1)


def columns_for(size: tuple[int, int], terminal_size: tuple[int, int]) -> int:
    """Columns of a picture in a terminal of so many columns and lines, in which it fits."""
    most, lines = max(terminal_size[0] - 1, 1), max(terminal_size[1] - LINES_LEFT, 1)
    return max(min(most, MAX_COLUMNS, int(2 * lines * size[0] / size[1])), 1)


def encode(image: Image.Image, protocol: str, columns: int, in_tmux: bool = False, number: int = 0) -> str:
    """What draws the picture at the cursor, in so many columns, and leaves the cursor below it.

    `number` is kitty's number of the image, which replaces the one before of that number.
    """
    image = image.convert("RGB")
    rows = rows_of(image.size, columns)
    if protocol == "half_blocks":
        return _half_blocks(image.resize((columns, 2 * rows), Image.Resampling.LANCZOS))
    if image.width > columns * CELL:
        image = image.resize((columns * CELL, max(image.height * columns * CELL // image.width, 1)))
    sequences = (
        _iterm2(image, columns, rows) if protocol == "iterm2" else _kitty(image, columns, rows, number)
    )
    drawn = "".join(_through_tmux(each) if in_tmux else each for each in sequences)
    room = "\n" * rows + f"{ESCAPE}[{rows}A"  # scrolls, if the picture would not fit
    return f"{room}{ESCAPE}7{drawn}{ESCAPE}8{ESCAPE}[{rows}B\r"


def _half_blocks(image: Image.Image) -> str:
    """Two pixels a cell: the upper half block in the colour of one, on the colour of the other."""
    lines = []
    for y in range(0, image.height, 2):
        line, before = "", None
        for x in range(image.width):
            colours = (image.getpixel((x, y)), image.getpixel((x, y + 1)))
            if colours != before:
                upper, lower = (";".join(map(str, colour)) for colour in colours)  # type: ignore[arg-type]
                line += f"{ESCAPE}[38;2;{upper};48;2;{lower}m"
            line, before = line + "▀", colours
        lines.append(f"{line}{ESCAPE}[0m\n")
    return "".join(lines)


def _kitty(image: Image.Image, columns: int, rows: int, number: int) -> Iterator[str]:
    """The PNG in chunks; C=1 leaves the cursor where it is, q=2 asks for no answer."""
    data = _png(image)
    chunks = [data[i : i + CHUNK] for i in range(0, len(data), CHUNK)]
    keys = f"a=T,f=100,c={columns},r={rows},C=1,q=2" + (f",i={number},p=1" if number else "")
    for i, chunk in enumerate(chunks):
        more = int(i < len(chunks) - 1)
        yield f"{ESCAPE}_G{f'{keys},' if i == 0 else 'q=2,'}m={more};{chunk}{ESCAPE}\\"


def _iterm2(image: Image.Image, columns: int, rows: int) -> Iterator[str]:
    data = _png(image)
    size = len(base64.b64decode(data))
    keys = f"inline=1;size={size};width={columns};height={rows};preserveAspectRatio=1"
    yield f"{ESCAPE}]1337;File={keys}:{data}\a"


def _png(image: Image.Image) -> str:
    data = io.BytesIO()
    image.save(data, "PNG", compress_level=1)
    return base64.b64encode(data.getvalue()).decode("ascii")


def _through_tmux(sequence: str) -> str:
    """The sequence as tmux hands it on to the terminal, where its option allow-passthrough is on."""
    return f"{ESCAPE}Ptmux;{sequence.replace(ESCAPE, ESCAPE * 2)}{ESCAPE}\\"


@dataclass(frozen=True)
class Screen:
    """A terminal in which pictures are drawn."""

    stream: TextIO
    protocol: str
    in_tmux: bool = False

    @classmethod
    def find(cls, environment: Mapping[str, str] = os.environ) -> Screen | None:
        """The terminal of standard error, or else of standard output; None if no picture can be drawn there."""
        stream = terminal()
        found = protocol(environment, stream is not None)
        return None if stream is None or found is None else cls(stream, found, bool(environment.get("TMUX")))

    def show(self, image: Image.Image) -> None:
        """Draw a picture that stays."""
        write_terminal(self.stream, self._encoded(image))

    def previews(self, steps: Iterator[Step], tells_steps: bool) -> Iterator[Step]:
        """Pass the steps through; at most every half second, show the estimate in the place of the one before."""
        lines, last = 0, time.monotonic()
        try:
            for step in steps:
                if time.monotonic() - last >= PREVIEW_INTERVAL:
                    lines = self._replace(lines, step, tells_steps)
                    last = time.monotonic()
                yield step
        finally:
            if lines:
                write_terminal(self.stream, self._erased(lines))

    def _replace(self, lines: int, step: Step, tells_steps: bool) -> int:
        """Draw the estimate of a step over the `lines` lines before; returns its own."""
        soft = step.preview(step.denoised)
        image = soft.resize((soft.width * 8, soft.height * 8), Image.Resampling.BICUBIC)
        back = f"\r{ESCAPE}[{lines}A" if lines else ""
        told = f"step {step.number} of {step.total}{ESCAPE}[K\n" if tells_steps else ""
        write_terminal(self.stream, back + self._encoded(image, PREVIEW_ID) + told)
        return rows_of(image.size, self._columns(image)) + bool(told)

    def _erased(self, lines: int) -> str:
        """What erases the last preview and leaves the cursor where it began."""
        delete = f"{ESCAPE}_Ga=d,d=I,i={PREVIEW_ID},q=2{ESCAPE}\\" if self.protocol == "kitty" else ""
        return f"{_through_tmux(delete) if delete and self.in_tmux else delete}\r{ESCAPE}[{lines}A{ESCAPE}[J"

    def _encoded(self, image: Image.Image, number: int = 0) -> str:
        return encode(image, self.protocol, self._columns(image), self.in_tmux, number)

    def _columns(self, image: Image.Image) -> int:
        return columns_for(image.size, shutil.get_terminal_size())
