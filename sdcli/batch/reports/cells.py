"""Cells: one outcome as a small picture of a fixed size: its picture, or hatching with what is wrong."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

from sdcli.batch.outcome import Outcome
from sdcli.batch.reports.described import WORDS, reason_of
from sdcli.batch.reports.labels import font, width_of, wrapped

INK = "#1f2328"
GREY = "#6e7781"
HAIRLINE = "#dfe3e8"
PAPER = "#ffffff"
WRONG = "#a4262c"
HATCHED = "#f7f8fa"
HATCHING = "#d8dde3"
HATCH_STEP = 14  # pixels between the lines
SMALL = 17  # pixels of the small type
LINE = 24  # pixels from one line of it to the next


def open_picture(path: Path) -> Image.Image | None:
    """The picture of a file in RGB, transparent parts on white; None if it cannot be read."""
    try:
        with Image.open(path) as image:
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                seen = image.convert("RGBA")
                return Image.alpha_composite(Image.new("RGBA", seen.size, PAPER), seen).convert("RGB")
            return image.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def size_of(path: Path | None) -> tuple[int, int] | None:
    """Width and height of a picture's file, from its header; None if it cannot be read."""
    if path is None:
        return None
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def scaled(size: tuple[int, int], box: tuple[int, int]) -> tuple[int, int]:
    """A size made smaller, if it must be, to fit in the box."""
    scale = min(1.0, box[0] / size[0], box[1] / size[1])
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def shown_size(size: tuple[int, int], box: tuple[int, int]) -> tuple[int, int]:
    """The size at which a picture is shown in the box: a small one a whole number of times as large."""
    times = min(box[0] // size[0], box[1] // size[1])
    return (size[0] * times, size[1] * times) if times > 1 else scaled(size, box)


def shown(image: Image.Image, box: tuple[int, int]) -> Image.Image:
    """A picture at the size at which it is shown in the box; the pixels of an enlarged one stay squares."""
    size = shown_size(image.size, box)
    how = Image.Resampling.NEAREST if size[0] > image.width else Image.Resampling.LANCZOS
    return image.resize(size, how)


def cell(outcome: Outcome, size: tuple[int, int]) -> Image.Image:
    """The picture of an outcome in a cell of this size; hatched, with the reason, where there is none."""
    picture = open_picture(outcome.path) if outcome.path is not None else None
    if picture is None:
        reason = reason_of(outcome) or f"{outcome.path} cannot be read"
        return hatched(size, WORDS[outcome.state] if not outcome.is_good else "missing", reason)
    small = shown(picture, size)
    image = Image.new("RGB", size, PAPER)
    image.paste(small, ((size[0] - small.width) // 2, (size[1] - small.height) // 2))
    if not outcome.is_good:
        _tag(image, WORDS[outcome.state])
    return image


def hatched(size: tuple[int, int], word: str, reason: str) -> Image.Image:
    """A hatched cell with the state's word and, below it, why."""
    width, height = size
    image = Image.new("RGB", size, HATCHED)
    draw = ImageDraw.Draw(image)
    for x in range(-height, width, HATCH_STEP):
        draw.line([(x, height), (x + height, 0)], fill=HATCHING, width=1)
    draw.rectangle([0, 0, width - 1, height - 1], outline=HAIRLINE)
    lines = wrapped(reason, width - 24, SMALL, max((height - 40) // LINE, 1))
    top = max((height - LINE * (len(lines) + 1)) // 2, 4)
    _centred(draw, word, width, top, WRONG)
    for i, line in enumerate(lines, 1):
        _centred(draw, line, width, top + i * LINE, INK)
    return image


def _centred(draw: ImageDraw.ImageDraw, text: str, width: int, top: int, colour: str) -> None:
    left = (width - width_of(text, SMALL)) // 2
    draw.rectangle([left - 4, top - 1, width - left + 3, top + LINE - 2], fill=HATCHED)
    draw.text((left, top), text, fill=colour, font=font(SMALL))


def _tag(image: Image.Image, word: str) -> None:
    """A label with a word in the upper left corner."""
    draw = ImageDraw.Draw(image)
    draw.rectangle([0, 0, width_of(word, SMALL) + 16, LINE + 5], fill=WRONG)
    draw.text((8, 4), word, fill=PAPER, font=font(SMALL))
