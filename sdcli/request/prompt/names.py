"""Names: the next step for a style or a wildcard that a folder or file of a user does not have."""

from __future__ import annotations

from collections.abc import Collection

_SHOWN = 5


def nearest(word: str, known: Collection[str]) -> str:
    """`did you mean 'a' or 'b'?`, the names most like the word; else some of those there are."""
    import difflib

    spelled = {each.lower(): each for each in known}
    if similar := difflib.get_close_matches(word.lower(), spelled, n=3, cutoff=0.55):
        return f"did you mean {' or '.join(repr(spelled[each]) for each in similar)}?"
    if not known:
        return "there are none"
    return f"there are: {', '.join(sorted(known)[:_SHOWN])}{', …' if len(known) > _SHOWN else ''}"
