"""Difference sheet: what failed a comparison, before, after and their difference side by side."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageChops, ImageDraw

from sdcli.batch.reports.cells import GREY, HAIRLINE, INK, PAPER, SMALL, hatched, shown, shown_size
from sdcli.batch.reports.labels import fitted, font

CELL = 384  # pixels of a picture's longer side, at most
MAGNIFIED = 16  # times that the difference is made brighter
MAX_ROWS = 36  # below 16,383 pixels, whatever the pictures' sizes
MARGIN, GAP, CAPTION = 40, 12, 38
COLUMNS = ("before", "after", f"difference x {MAGNIFIED}")

Comparison = tuple[str, Image.Image, Image.Image]


def difference(before: Image.Image, after: Image.Image) -> Image.Image | None:
    """The absolute difference of two pictures, 16 times as bright, RGB; None if their sizes differ."""
    if before.size != after.size:
        return None
    plain = ImageChops.difference(before.convert("RGB"), after.convert("RGB"))
    return plain.point([min(value * MAGNIFIED, 255) for value in range(256)] * 3)


def difference_sheet(rows: Sequence[Comparison]) -> Image.Image:
    """One sheet of the first 36 rows of (caption, before, after); it says how many more there are."""
    first = rows[:MAX_ROWS]
    cells = [shown_size(image.size, (CELL, CELL)) for _, *pair in first for image in pair]
    width = max((cell[0] for cell in cells), default=CELL)
    height = max((cell[1] for cell in cells), default=CELL)
    row_height = CAPTION + height + 2 * GAP
    foot = CAPTION if len(rows) > len(first) else 0
    size = (2 * MARGIN + 3 * width + 2 * GAP, 2 * MARGIN + CAPTION + len(first) * row_height + foot)
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    for i, column in enumerate(COLUMNS):
        pen.text((MARGIN + i * (width + GAP), MARGIN - 4), column, fill=GREY, font=font(SMALL))
    for i, row in enumerate(first):
        _draw_row(sheet, row, MARGIN + CAPTION + i * row_height, (width, height))
    if foot:
        more = f"and {len(rows) - len(first)} more pictures that differ"
        pen.text((MARGIN, size[1] - MARGIN - CAPTION + 8), more, fill=GREY, font=font(SMALL))
    return sheet


def _draw_row(sheet: Image.Image, row: Comparison, y: int, size: tuple[int, int]) -> None:
    caption, before, after = row
    pen = ImageDraw.Draw(sheet)
    pen.line([(MARGIN, y), (sheet.width - MARGIN - 1, y)], fill=HAIRLINE)
    text = fitted(caption, sheet.width - 2 * MARGIN, SMALL)
    pen.text((MARGIN, y + 8), text, fill=INK, font=font(SMALL))
    sizes = f"{before.width} x {before.height} before, {after.width} x {after.height} after"
    for i, image in enumerate((before, after, difference(before, after))):
        x = MARGIN + i * (size[0] + GAP)
        small = hatched(size, "other size", sizes)
        if image is not None:
            small = shown(image.convert("RGB"), size)
        sheet.paste(small, (x, y + CAPTION))
