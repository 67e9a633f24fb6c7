"""Interrupts: Ctrl-C and SIGTERM end `sd` quietly at any moment, from before its first import to its exit."""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
_IMPORT_SYSTEM = "<frozen importlib._bootstrap>"

_work_is_unwound = (
    False  # True while an exception of an interrupt is caught, and what was begun is cleaned up
)


def handle_interrupts() -> None:
    """Let both signals end the process; a process that was started with Ctrl-C ignored goes on ignoring it."""
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def unwind(begin: bool) -> None:
    """From now on, an interrupt raises an exception, for which the caller is ready; or, at the end, no longer does."""
    global _work_is_unwound
    _work_is_unwound = begin


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Raise KeyboardInterrupt or SystemExit in the middle of work; else, and the second time, exit at once.

    A module that is being imported is no work: half of it would be left, and libraries print what they meet there.
    """
    code = EXIT_CODES[signal.Signals(number)]
    if not _work_is_unwound or _is_import(frame):
        os._exit(code)
    unwind(False)
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(code)


def _is_import(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == _IMPORT_SYSTEM:
            return True
        frame = frame.f_back
    return False
