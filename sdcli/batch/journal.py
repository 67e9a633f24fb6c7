"""Journal: what a batch has finished, as JSON lines on the disk, so that it goes on where it was killed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from sdcli import store
from sdcli.errors import UsageError, WriteError

VERSION = 1


@dataclass(frozen=True)
class Entry:
    """One line of a journal.

    `state` is `writing` before the picture gets its name, `done` after it, or `failed`. `key` and `identity` are those
    of the job, see `identity.py`; `path` is relative to the journal's folder. `more` are the recorded request, facts
    and seconds of a picture, or the failure.
    """

    state: str
    key: str
    identity: str
    path: str = ""
    sha256: str = ""
    more: Mapping[str, Any] | None = None

    def line(self) -> bytes:
        """The entry as a line of JSON."""
        values = {"v": VERSION, **{name: value for name, value in vars(self).items() if value}}
        return json.dumps(values, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


class Journal:
    """An open journal file, to which lines are appended; each is on the disk when `add` returns.

    Only one process writes it at a time. Raises UsageError if another one does, and WriteError if it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o666)
        except OSError as error:
            raise store.write_error(path, error) from error
        try:
            _lock(self._fd, path)
            self._end_torn_line()
        except BaseException:
            os.close(self._fd)
            raise

    def add(self, entry: Entry) -> None:
        """Append an entry and flush it to the disk."""
        self._append(entry.line())

    def close(self) -> None:
        """Let others write the journal."""
        with contextlib.suppress(OSError):  # every line is on the disk already
            os.close(self._fd)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, data: bytes) -> None:
        try:
            unwritten = memoryview(data)
            while unwritten:
                unwritten = unwritten[os.write(self._fd, unwritten) :]
            os.fsync(self._fd)
        except OSError as error:
            raise store.write_error(self.path, error) from error

    def _end_torn_line(self) -> None:
        """End a line that a crash cut short, so that the next one stands alone."""
        size = os.lseek(self._fd, 0, os.SEEK_END)
        if not size:
            return
        os.lseek(self._fd, size - 1, os.SEEK_SET)
        if os.read(self._fd, 1) != b"\n":
            self._append(b"\n")


def read(path: Path) -> Iterator[Entry]:
    """The entries of a journal, in their order; lines that are torn or of another version are passed over.

    A journal that is not there has none. Raises WriteError if the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            for line in file:
                entry = _entry(line)
                if entry is not None:
                    yield entry
    except FileNotFoundError:
        return
    except OSError as error:
        raise WriteError(f"{path}: cannot be read: {(error.strerror or 'unknown reason').lower()}") from error


def unreadable_lines(path: Path) -> int:
    """How many lines of a journal are passed over by `read`: a crash cuts one at most."""
    try:
        with open(path, "rb") as file:
            return sum(_entry(line) is None for line in file if line.strip())
    except OSError:
        return 0


def _entry(line: bytes) -> Entry | None:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or values.pop("v", None) != VERSION:
        return None
    texts = {name: values.pop(name, "") for name in ("state", "key", "identity", "path", "sha256")}
    more = values.pop("more", None)
    if PurePosixPath(str(texts["path"])).is_absolute() or ".." in PurePosixPath(str(texts["path"])).parts:
        return None  # written by nobody but an attacker
    is_whole = all(isinstance(each, str) for each in texts.values()) and texts["state"] and texts["key"]
    if not is_whole or values or not (more is None or isinstance(more, dict)):
        return None
    return Entry(**texts, more=more)


def _lock(fd: int, path: Path) -> None:
    """Take the file for this process alone; where the system has no such locks, nothing is done.

    Two processes without locks lose nothing: names are given out by the file system, and both journal what they wrote.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise UsageError(
                f"{path}: another sd is at work on this batch; wait for it, or draw a part each with --shard"
            ) from None
