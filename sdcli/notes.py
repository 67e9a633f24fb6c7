"""Notes: what the library has to say beside a result, for whoever can show it; the library itself prints nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

Tell = Callable[[str], None]
_listener: ContextVar[Tell | None] = ContextVar("listener", default=None)


@contextlib.contextmanager
def telling(listener: Tell) -> Iterator[None]:
    """Inside, `listener` gets each line that `tell` is called with, once."""
    told: set[str] = set()

    def once(line: str) -> None:
        if line not in told:
            told.add(line)
            listener(line)

    token = _listener.set(once)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(line: str) -> None:
    """Tell a line, such as which file was taken for a part of its name; nobody may listen."""
    if (listener := _listener.get()) is not None:
        listener(line)
