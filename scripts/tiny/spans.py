"""Which tokens of a caption name a thing: for teaching the UNet to look at them."""

from functools import cache

import tokens
from captions import many
from compose import HUES
from concepts import COLOURS, CONCEPTS
from sdcli.tokenizer import ids

# words said of a thing before its name
BEFORE = {word: tuple(ids(word)) for word in sorted({*HUES, *COLOURS.values()})}


@cache
def _names() -> dict[str, tuple[tuple[int, ...], ...]]:
    """concept -> the token ids of each of its names, longest first, singular and plural."""
    found = {}
    for concept, (_, others) in CONCEPTS.items():
        names = [form for name in (concept, *others) for form in (name, many(2, name).removeprefix("two "))]
        found[concept] = tuple(sorted({tuple(ids(name)) for name in names}, key=len, reverse=True))
    return found


def span(row: list[int], concept: str) -> tuple[int, int]:
    """(start, end) of the tokens that name this thing, with a colour before them; (0, 0) if none do.

    row: token ids of a whole caption (77).
    """
    for name in _names()[concept]:
        for start in range(1, tokens.LENGTH - len(name)):
            if tuple(row[start : start + len(name)]) == name:
                before = [word for word in BEFORE.values() if tuple(row[max(0, start - len(word)) : start]) == word]
                return start - max(map(len, before), default=0), start + len(name)
    return 0, 0
