"""Streams: what the commands read from standard input and write to standard output and standard error.

Only this module writes. Results are written whole, whatever standard output is, or a WriteError says why not. Notes on
standard error are dropped if nobody can read them: they never decide whether a picture is drawn.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, NoReturn, TextIO

from sdcli.errors import UsageError, WriteError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space or redirect it elsewhere",
    errno.EDQUOT: "the disk quota is used up; free some space or redirect it elsewhere",
    errno.EFBIG: "the file would be larger than is allowed; raise the limit or redirect it elsewhere",
    errno.EBADF: "it is closed; leave out `>&-`, or redirect it to a file",
}


class WholeWriter(io.RawIOBase):
    """A binary stream that writes all it is given: a write that took only a part of it is continued.

    A pipe that is full and does not block is waited for. An OSError goes to `on_error`.
    """

    def __init__(self, raw: io.RawIOBase, on_error: Callable[[OSError], None]) -> None:
        self._raw, self._on_error = raw, on_error
        self.name = str(getattr(raw, "name", ""))

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._raw.isatty()

    def fileno(self) -> int:
        return self._raw.fileno()

    def write(self, data: ReadableBuffer) -> int:
        unwritten = memoryview(data).cast("B")
        size = len(unwritten)
        try:
            while unwritten:
                count = self._raw.write(unwritten)
                if count is None:  # a pipe that does not block, and is full
                    select.select([], [self._raw], [])
                unwritten = unwritten[count or 0 :]
        except OSError as error:
            self._on_error(error)
        return size


def open_standard_streams() -> None:
    """Make standard output write whole, and standard error never fail, for the rest of the process.

    The descriptors 0, 1 and 2 that are closed are opened, so that no file of the program gets the number of one and
    receives what a library prints. They are opened the wrong way round: using one is still an error.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if descriptor == 0 else os.O_RDONLY)
    sys.stdout = _text(WholeWriter(_raw(sys.stdout, 1), _raise_write_error))
    sys.stderr = _text(WholeWriter(_raw(sys.stderr, 2), lambda error: None))


def flush_standard_streams() -> None:
    """Pass on what is held back; a stream that is closed, full or broken is no fault any more."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, WriteError):
            stream.flush()


def print_result(line: str, saved: object = None) -> None:
    """Write a line on standard output; raises WriteError if it cannot be written, which tells what is `saved`."""
    try:
        print(line, flush=True)
    except WriteError as error:
        if saved is None:
            raise
        raise WriteError(f"{error}; {saved} is saved") from error


def shows_colours() -> bool:
    """True if standard output is a terminal whose user did not switch colours off by NO_COLOR."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def write_result(data: bytes) -> None:
    """Write bytes on standard output; raises WriteError if they cannot all be written."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def check_result_can_be_written() -> None:
    """Raise WriteError if standard output is closed, or open for reading only."""
    with contextlib.suppress(OSError, ValueError):
        descriptor = sys.stdout.fileno()
        try:
            os.write(descriptor, b"")
        except OSError as error:
            _raise_write_error(error)


def print_note(text: str) -> None:
    """Write a line on standard error; a stream that is closed, full or broken is no fault."""
    with contextlib.suppress(OSError):
        print(f"sd: {text}", file=sys.stderr, flush=True)


def print_command(line: str) -> None:
    """Write a line on standard error as it is: a command that the CI around us reads, such as `::error::…`."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def terminal() -> TextIO | None:
    """Standard error, or else standard output, if it is a terminal; None if neither is."""
    return next(
        (stream for stream in (sys.stderr, sys.stdout) if stream is not None and stream.isatty()), None
    )


def write_terminal(stream: TextIO, text: str) -> None:
    """Write text as it is on a terminal; one that is gone is no fault."""
    with contextlib.suppress(OSError, WriteError):
        stream.write(text)
        stream.flush()


def standard_input(what: str) -> BinaryIO:
    """Standard input, from which `what` is read; raises UsageError if it is closed."""
    if sys.stdin is None:
        raise UsageError(f"{what} is standard input, which is closed; name a file, or pipe it in")
    return sys.stdin.buffer


def _raw(stream: TextIO | None, descriptor: int) -> io.RawIOBase:
    """The unbuffered stream below a text stream; for a closed one (None), that of its descriptor."""
    if stream is None:
        return io.FileIO(descriptor, "w", closefd=False)
    stream.flush()
    buffer: object = stream.buffer
    raw = getattr(buffer, "raw", buffer)
    assert isinstance(raw, io.RawIOBase)
    return raw


def _text(writer: WholeWriter) -> io.TextIOWrapper:
    return io.TextIOWrapper(writer, encoding="utf-8", errors="backslashreplace", write_through=True)


def _raise_write_error(error: OSError) -> NoReturn:
    if isinstance(error, BrokenPipeError):  # the reader left; that is no fault
        raise error
    reason = _REASONS.get(
        error.errno or 0, f"{(error.strerror or 'unknown reason').lower()}; redirect it elsewhere"
    )
    raise WriteError(f"standard output: cannot be written: {reason}") from error
