"""Errors that a user can cause or meet. Each message is one line: the thing, the reason, a next step.

Messages are written with the command line's options (`--stop-after`). Outside of it, they name what a Python program
or a job file calls them (`stop_after`).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from contextvars import ContextVar

PYTHON_NAMES = {"-o": "path", "--out": "path"}
"""Option -> its name in Python. Those of a request are added where its fields are declared."""

_names_options: ContextVar[bool] = ContextVar("names_options", default=False)
_OPTION = re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*")


@contextlib.contextmanager
def naming_options(named: bool = True) -> Iterator[None]:
    """Inside, an error's text names options as they are typed; outside, or if not `named`, as Python names them."""
    token = _names_options.set(named)
    try:
        yield
    finally:
        _names_options.reset(token)


def are_options_named() -> bool:
    """True if an error's text names options as they are typed."""
    return _names_options.get()


def in_python_words(text: str) -> str:
    """The text with each option replaced by its name in Python: `--stop-after 30` by `stop_after 30`."""
    return _OPTION.sub(lambda option: PYTHON_NAMES.get(option[0], option[0]), text)


class SdError(Exception):
    """An expected failure. `code` is the exit code of `sd`, and `kind` the word for it that never changes."""

    code = 1
    kind = "failed"
    is_answered = False  # True if the answer of --json says it already

    def __str__(self) -> str:
        text = super().__str__()
        return text if _names_options.get() else in_python_words(text)


class UsageError(SdError):
    """An option, a prompt or a job file that makes no sense."""

    code = 2
    kind = "usage"


class ModelError(SdError):
    """A model file that is bad, missing or of another family."""

    code = 3
    kind = "model"


class ImageError(SdError):
    """A picture, mask or latents file that is bad or does not fit."""

    code = 4
    kind = "image"


class OutOfMemory(SdError):
    """Not enough memory, even after the fall-backs."""

    code = 5
    kind = "memory"


class WriteError(SdError):
    """A result that cannot be written."""

    code = 6
    kind = "write"


class NotFinite(SdError):
    """A result with infinite or NaN values, even after the fall-backs; nothing is written."""

    code = 7
    kind = "not_finite"
