"""Labels: texts drawn into pictures with Pillow's own font, fitted to the room that there is."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from PIL import ImageFont

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont
    from PIL.ImageFont import ImageFont as BitmapFont

ELLIPSIS = "…"
MISSING = "?"  # stands for a run of characters that the font lacks
CONTEXT = 12  # characters that are kept of what several labels share at their start, and at their end
_ALIKE = str.maketrans(
    {"×": "x", "–": "-", "—": "-", "−": "-", "‘": "'", "’": "'", "„": '"', "ß": "ss", "ø": "o"}
)


@cache
def font(size: int) -> FreeTypeFont | BitmapFont:
    """Pillow's own font of this size in pixels."""
    return ImageFont.load_default(size)


def width_of(text: str, size: int) -> int:
    """Pixels that a line takes."""
    return round(font(size).getlength(text))


def drawable(text: str) -> str:
    """The text in characters that the font has, on one line.

    Accents are taken off, and what it has no picture for, such as another script, becomes one question mark a run.
    """
    plain = unicodedata.normalize("NFKD", text.translate(_ALIKE))
    kept = [c for c in plain if unicodedata.category(c) not in ("Mn", "Cf")]
    shown: list[str] = []
    for character in kept:
        known = " " if character.isspace() else character if _is_known(character) else MISSING
        if known != MISSING or character == MISSING or not shown or shown[-1] != MISSING:
            shown.append(known)
    return " ".join("".join(shown).split())


@cache
def _is_known(character: str) -> bool:
    """True if the font has a picture for it, and not the one for characters that no font has."""
    if not character.isprintable():
        return False
    own, none = (font(20).getmask(each) for each in (character, "\ufffe"))
    return own.size != none.size or bytes(own) != bytes(none)


def told_apart(texts: Sequence[str], longest: int) -> list[str]:
    """Each text in at most so many characters or so: what long ones share at start and end gives way to ellipses."""
    if max(map(len, texts), default=0) <= longest or len(set(texts)) < 2:
        return [in_middle(text, longest) for text in texts]
    start = _shared_start(texts)
    end = _shared_start([text[start:][::-1] for text in texts])
    return [_without_shared(text, start, end, longest) for text in texts]


def _shared_start(texts: Sequence[str]) -> int:
    """How many characters all of the texts begin with."""
    together = zip(*texts, strict=False)
    return next(
        (i for i, characters in enumerate(together) if len(set(characters)) > 1), min(map(len, texts))
    )


def _without_shared(text: str, start: int, end: int, longest: int) -> str:
    """A text whose first `start` and last `end` characters are shared by others, shortened there first."""
    head, tail = text[:start], text[len(text) - end :]
    context = min(CONTEXT, longest // 4)
    if len(head) > context:
        words = head[-context:]
        head = ELLIPSIS + (words.partition(" ")[2] or words)
    if len(tail) > context:
        words = tail[:context]
        tail = (words.rpartition(" ")[0] or words) + ELLIPSIS
    return head + in_middle(text[start : len(text) - end], max(longest - len(head) - len(tail), 8)) + tail


def in_middle(text: str, longest: int) -> str:
    """The text in at most so many characters, with an ellipsis in the middle."""
    if len(text) <= longest:
        return text
    head = (longest - 1) // 2
    return f"{text[:head].rstrip()}{ELLIPSIS}{text[len(text) - (longest - 1 - head) :].lstrip()}"


def fitted(text: str, width: int, size: int) -> str:
    """The text on one line of so many pixels, with an ellipsis at its end if it is cut."""
    text = drawable(text)
    if width_of(text, size) <= width:
        return text
    shortest, longest = 0, min(len(text), width)  # no character is narrower than a pixel
    while shortest < longest:
        middle = (shortest + longest + 1) // 2
        fits = width_of(text[:middle] + ELLIPSIS, size) <= width
        shortest, longest = (middle, longest) if fits else (shortest, middle - 1)
    return text[:shortest].rstrip() + ELLIPSIS


def wrapped(text: str, width: int, size: int, most: int) -> list[str]:
    """The text on at most `most` lines of so many pixels; the last is cut with an ellipsis."""
    words = drawable(text).split(" ")
    lines: list[str] = []
    while words and len(lines) < most - 1:
        number = _words_that_fit(words, width, size)
        lines.append(fitted(" ".join(words[:number]), width, size))
        words = words[number:]
    return [*lines, fitted(" ".join(words), width, size)] if words else lines


def _words_that_fit(words: Sequence[str], width: int, size: int) -> int:
    """How many of the words fit on a line, at least one."""
    length = 0.0
    for number, word in enumerate(words):
        length += font(size).getlength(word if number == 0 else f" {word}")
        if length > width:
            return max(number, 1)
    return len(words)
