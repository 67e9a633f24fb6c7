"""Download progress: how much of a file has come, as a bar on a terminal, else as a line every few seconds."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sdcli.commands._streams import print_note
from sdcli.pull.download import Watch

if TYPE_CHECKING:
    from tqdm import tqdm

INTERVAL = 5.0
"""Seconds between lines where standard error is not a terminal."""


@contextlib.contextmanager
def download_progress(label: str) -> Iterator[Watch]:
    """Inside, what is called with (bytes that are there, bytes in all; 0 if unknown) shows them on standard error."""
    if not sys.stderr.isatty():
        yield _Lines(label)
        return
    with contextlib.closing(_Bar(label)) as bar:
        yield bar


class _Lines:
    """A line every few seconds, none for what comes sooner."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._last = time.monotonic()

    def __call__(self, done: int, size: int) -> None:
        if time.monotonic() - self._last >= INTERVAL:
            self._last = time.monotonic()
            of_all = f" of {size / 1e6:,.0f} MB ({done / size:.0%})" if size else " MB"
            print_note(f"{self._label}: {done / 1e6:,.0f}{of_all}")


class _Bar:
    """A tqdm bar, from the first byte on; what was there before does not count for the speed."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._bar: tqdm[Any] | None = None

    def __call__(self, done: int, size: int) -> None:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                desc=self._label, initial=done, total=size or None, file=sys.stderr, leave=False, dynamic_ncols=True,
                unit="B", unit_scale=True,
            )  # fmt: skip
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
