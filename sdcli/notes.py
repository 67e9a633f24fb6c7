"""Notes: what the library has to say beside a result, for whoever can show it; the library itself prints nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

Tell = Callable[[str], None]
_tell: ContextVar[Tell | None] = ContextVar("tell", default=None)


@contextlib.contextmanager
def telling(tell: Tell) -> Iterator[None]:
    """Inside, `tell` gets each line that `note` is called with, once."""
    told: set[str] = set()

    def once(line: str) -> None:
        if line not in told:
            told.add(line)
            tell(line)

    token = _tell.set(once)
    try:
        yield
    finally:
        _tell.reset(token)


def note(line: str) -> None:
    """Tell a line, such as which file was taken for a part of its name; nobody may listen."""
    if (tell := _tell.get()) is not None:
        tell(line)
