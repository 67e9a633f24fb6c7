"""Strips: what a contact sheet is put together from, and the sheets that they fit on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from PIL import Image

from sdcli.batch.reports.cells import PAPER

MAX_PIXELS = 64_000_000  # of one sheet
MAX_SIDE = 16_383  # pixels; a WebP has no more
MARGIN, GAP = 40, 12


@dataclass(frozen=True)
class Strip:
    """A part of a sheet over its whole width: its height, and what draws it from a height down."""

    height: int
    draw: Callable[[Image.Image, int], None]


@dataclass(frozen=True)
class Row:
    """A strip of cells, and the headings that it stands under, which are repeated on the next sheet."""

    headings: tuple[Strip, ...]
    strip: Strip


def pages(title: Strip, width: int, rows: Sequence[Row]) -> Iterator[Image.Image]:
    """The rows on as few sheets as they fit on, each under the title."""
    room = min(MAX_SIDE, MAX_PIXELS // width) - 2 * MARGIN - title.height
    found: list[list[Strip]] = [[]]
    above: tuple[Strip, ...] = ()
    for row in rows:
        new = () if row.headings == above else row.headings
        if found[-1] and _height([*found[-1], *new, row.strip]) > room:
            found.append([])
            new = row.headings
        found[-1] += [*new, row.strip]
        above = row.headings
    for strips in found:
        yield _drawn([title, *strips], width)


def _height(strips: Sequence[Strip]) -> int:
    return sum(strip.height for strip in strips)


def _drawn(strips: Sequence[Strip], width: int) -> Image.Image:
    sheet = Image.new("RGB", (width, _height(strips) + 2 * MARGIN - GAP), PAPER)
    y = MARGIN
    for strip in strips:
        strip.draw(sheet, y)
        y += strip.height
    return sheet
