"""Sheet: the pictures of a batch side by side, labelled, a contact sheet for each entry of the job file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from PIL import Image, ImageDraw

from sdcli.batch.outcome import Outcome
from sdcli.batch.reports.cells import GREY, HAIRLINE, INK, LINE, SMALL, cell, scaled, size_of
from sdcli.batch.reports.described import name_of, request_of, states
from sdcli.batch.reports.labels import fitted, font, told_apart, width_of, wrapped
from sdcli.batch.reports.strips import GAP, MARGIN, MAX_SIDE, Row, Strip, pages
from sdcli.batch.reports.tables import SEPARATOR, Axis, Table, axes, constants, entries, tables

CELL_SIDES = (
    512,
    384,
    256,
    192,
    128,
)  # pixels of a cell's longer side; the first with which a row is short enough
ROW = 4096  # pixels that are short enough
TITLE, HEADING, LABEL = 32, 24, 20  # pixels of the type
MAX_LABEL = 240  # pixels of the labels at the left
MAX_ACROSS = 10  # values of a single axis that still go in one row


def sheets(outcomes: Sequence[Outcome]) -> Iterator[Image.Image]:
    """The contact sheets, RGB, of each entry in turn, and one of all entries that are a single picture.

    Each is below 64 megapixels and 16,383 pixels a side. The last axis goes across and the one before it down; there
    is a table for each combination of the others. Without axes, the pictures stand in rows with their names.
    """
    for entry, members in _sheets_of(outcomes):
        found = axes(members)
        layout = tables(members, found) if found else []
        is_table = all(len(at) <= 1 for table in layout for row in table.cells for at in row)
        if layout and is_table and (len(found) > 1 or len(found[0].values) <= MAX_ACROSS):
            width, rows = _table_rows(members, layout)
        else:
            width, rows = _grid_rows(members, found)
        width = max(width, 360)
        yield from pages(_title(entry, members, width), width, rows)


def _sheets_of(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, Sequence[Outcome]]]:
    """(entry, its outcomes); the entries of a single picture come together, behind the others."""
    singles: list[Outcome] = []
    last = ""
    for entry, members in entries(outcomes):
        if len(members) > 1:
            yield entry, members
        else:
            singles += members
            last = entry
    if singles:
        yield last if len(singles) == 1 else "", singles


def _title(entry: str, outcomes: Sequence[Outcome], width: int) -> Strip:
    """What the sheet is about: the entry's name or its prompt, and what is the same for all its pictures."""
    prompts = {request_of(outcome).prompt for outcome in outcomes}
    prompt = next(iter(prompts)) if len(prompts) == 1 else ""
    name = entry if entry and not entry.isdecimal() else prompt or f"{len(outcomes)} pictures"
    same = [f"{axis} {value}" for axis, value in constants(outcomes).items()]
    about = SEPARATOR.join([*([prompt] if prompt and prompt != name else []), *same, states(outcomes)])

    def draw(sheet: Image.Image, y: int) -> None:
        pen, room = ImageDraw.Draw(sheet), width - 2 * MARGIN
        pen.text((MARGIN, y - 4), fitted(name, room, TITLE), fill=INK, font=font(TITLE))
        pen.text((MARGIN, y + 40), fitted(about, room, LABEL), fill=GREY, font=font(LABEL))
        pen.line([(MARGIN, y + 78), (width - MARGIN - 1, y + 78)], fill=HAIRLINE)

    return Strip(104, draw)


# --- tables


def _table_rows(outcomes: Sequence[Outcome], layout: Sequence[Table]) -> tuple[int, list[Row]]:
    """The width of a sheet, and the rows of the tables; a table that is too wide is several below each other."""
    across, down = layout[0].across, layout[0].down
    size = _cell_size(outcomes, len(across.values))
    texts = _value_texts(down) if down else []
    label = min(max((_label_width(down, text) for text in texts), default=0), MAX_LABEL) if down else 0
    left = MARGIN + (label + 2 * GAP if label else 0)
    most = max((MAX_SIDE - left - MARGIN) // (size[0] + GAP), 1)
    columns = min(most, len(across.values))
    rows: list[Row] = []
    for table in layout:
        for first in range(0, len(across.values), most):
            some = range(first, min(first + most, len(across.values)))
            rows += _rows_of(table, some, size, left, label)
    return left + columns * (size[0] + GAP) - GAP + MARGIN, rows


def _rows_of(table: Table, columns: range, size: tuple[int, int], left: int, label: int) -> Iterator[Row]:
    names = _value_texts(table.across)
    header = _header(table.across, [names[i] for i in columns], size[0], left)
    headings = (_heading(table.heading), header) if table.heading else (header,)
    labels = _value_texts(table.down) if table.down else [""]
    for text, cells in zip(labels, table.cells, strict=True):
        shown = [cells[i][0] if cells[i] else None for i in columns]
        yield Row(headings, _cell_strip(table.down, text, shown, size, left, label))


def _heading(text: str) -> Strip:
    def draw(sheet: Image.Image, y: int) -> None:
        room = sheet.width - 2 * MARGIN
        ImageDraw.Draw(sheet).text(
            (MARGIN, y + 18), fitted(text, room, HEADING), fill=INK, font=font(HEADING)
        )

    return Strip(HEADING + 38, draw)


def _header(axis: Axis, texts: Sequence[str], cell_width: int, left: int) -> Strip:
    """The values of the axis that goes across, over their columns."""
    labels = [_label_lines(axis.name, text, cell_width) for text in texts]
    lines = max(map(len, labels))

    def draw(sheet: Image.Image, y: int) -> None:
        for i, label in enumerate(labels):
            top = y + (lines - len(label)) * LINE
            _draw_label(sheet, label, axis.name, left + i * (cell_width + GAP), top)

    return Strip(lines * LINE + 10, draw)


def _cell_strip(
    axis: Axis | None,
    text: str,
    shown: Sequence[Outcome | None],
    size: tuple[int, int],
    left: int,
    label: int,
) -> Strip:
    """A row of cells, with the value of the axis that goes down at its left."""

    def draw(sheet: Image.Image, y: int) -> None:
        if axis is not None:
            lines = _label_lines(axis.name, text, label, max(size[1] // LINE, 1))
            _draw_label(sheet, lines, axis.name, MARGIN, y)
        for i, outcome in enumerate(shown):
            x = left + i * (size[0] + GAP)
            _frame(sheet, x, y, size)
            if outcome is not None:  # a job has these values
                sheet.paste(cell(outcome, size), (x, y))

    return Strip(size[1] + GAP, draw)


def _frame(sheet: Image.Image, x: int, y: int, size: tuple[int, int]) -> None:
    """A hairline round a cell."""
    ImageDraw.Draw(sheet).rectangle([x - 1, y - 1, x + size[0], y + size[1]], outline=HAIRLINE)


def _value_texts(axis: Axis) -> list[str]:
    """The values of an axis, long ones cut where they are alike."""
    return told_apart([SEPARATOR.join(value) for value in axis.values], 90)


def _label_width(axis: Axis | None, text: str) -> int:
    return width_of(f"{axis.name} {text}" if axis else text, LABEL) + 2


def _label_lines(name: str, text: str, width: int, most: int = 4) -> list[str]:
    """A label's lines: the axis and its value on one, or the axis above its value."""
    whole = f"{name} {text}"
    return (
        [whole] if width_of(whole, LABEL) <= width else [name, *wrapped(text, width, LABEL, max(most - 1, 1))]
    )


def _draw_label(sheet: Image.Image, lines: Sequence[str], name: str, x: int, y: int) -> None:
    """Draw a label: the axis's name in grey, its value in black."""
    pen = ImageDraw.Draw(sheet)
    for i, line in enumerate(lines):
        pen.text((x, y + i * LINE), fitted(line, sheet.width, LABEL), fill=INK, font=font(LABEL))
    pen.text((x, y), fitted(name, sheet.width, LABEL), fill=GREY, font=font(LABEL))


# --- without a table


def _grid_rows(outcomes: Sequence[Outcome], found: Sequence[Axis]) -> tuple[int, list[Row]]:
    """The width of a sheet, and rows of pictures in their order with a label below each."""
    columns = min(len(outcomes), max(4, min(10, round(1.25 * math.sqrt(len(outcomes))))))
    size = _cell_size(outcomes, columns)
    labels = told_apart([_caption(outcome, found) for outcome in outcomes], 60)
    lines = [wrapped(label, size[0], SMALL, 2) for label in labels]
    rows = []
    for first in range(0, len(outcomes), columns):
        some = slice(first, first + columns)
        rows.append(Row((), _captioned_strip(outcomes[some], lines[some], size)))
    return 2 * MARGIN + columns * (size[0] + GAP) - GAP, rows


def _caption(outcome: Outcome, found: Sequence[Axis]) -> str:
    values = SEPARATOR.join(f"{axis.name} {SEPARATOR.join(axis.value_of(outcome))}" for axis in found)
    return values or name_of(outcome)


def _captioned_strip(
    outcomes: Sequence[Outcome], lines: Sequence[Sequence[str]], size: tuple[int, int]
) -> Strip:
    def draw(sheet: Image.Image, y: int) -> None:
        for i, outcome in enumerate(outcomes):
            x = MARGIN + i * (size[0] + GAP)
            _frame(sheet, x, y, size)
            sheet.paste(cell(outcome, size), (x, y))
            for number, line in enumerate(lines[i]):
                place = (x, y + size[1] + 6 + number * LINE)
                ImageDraw.Draw(sheet).text(place, line, fill=INK, font=font(SMALL))

    return Strip(size[1] + 6 + max(map(len, lines)) * LINE + GAP, draw)


def _cell_size(outcomes: Sequence[Outcome], columns: int) -> tuple[int, int]:
    """Width and height of all cells: as large as the largest of the pictures, made smaller to go in a row."""
    side = next((side for side in CELL_SIDES if columns * (side + GAP) <= ROW), CELL_SIDES[-1])
    found = [size for size in (size_of(outcome.path) for outcome in outcomes) if size]
    sizes = [scaled(size, (side, side)) for size in found] or [(side // 2, side // 2)]
    width, height = (max(*sides, CELL_SIDES[-1]) for sides in zip(*sizes, strict=True))
    return width, height
