"""Batch output: what is printed while a batch runs: events or paths on standard output, progress on standard error."""

from __future__ import annotations

import datetime
import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcli.batch.outcome import EVENT_SCHEMA
from sdcli.commands._streams import print_note, print_result
from sdcli.estimate import duration
from sdcli.request.request import Request

if TYPE_CHECKING:
    from tqdm import tqdm

    from sdcli.batch.outcome import Failure
    from sdcli.batch.plan import Planned
    from sdcli.commands._terminal_pictures import Screen
    from sdcli.result import Step

INTERVAL = 5.0  # seconds between lines of progress where standard error is not a terminal


class BatchOutput:
    """Prints the events of a batch, from any thread.

    With `as_json`, each is an object a line: start, job_started, job_done, job_failed, job_skipped, warning, summary.
    Else a path a line for each picture. Failures and warnings are notes on standard error as well.
    """

    def __init__(self, as_json: bool, quiet: bool, screen: Screen | None = None) -> None:
        self.as_json, self.quiet, self.screen = as_json, quiet, screen
        self._lock = threading.Lock()
        self._bar: tqdm[Any] | None = None
        self._begun = self._last_line = time.monotonic()
        self._total = self._ended = self._failed = 0

    def start(self, jobs: int, to_draw: int, **facts: Any) -> None:
        """The batch begins with so many jobs, of which some are to be drawn."""
        self._total = to_draw
        self._event("start", jobs=jobs, to_draw=to_draw, **facts)
        if to_draw and not self.quiet and self.screen is None and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=to_draw, desc="batch", file=sys.stderr, dynamic_ncols=True, unit="picture")

    def tell(self, type: str, planned: Planned | None = None, **facts: Any) -> None:
        """Print one event of the batch, or of one of its jobs."""
        with self._lock:
            if type == "warning":
                self._note(str(facts["message"]))
            failure: Failure | None = facts.pop("failure", None)
            trace = facts.pop("trace", "")
            if failure is not None and planned is not None:
                self._note(f"{planned.job.source}: {planned.job.name or planned.path}: {failure.message}")
                if trace and not self.quiet:
                    self._note(trace)
                facts["error"] = {"code": failure.kind, "exit": failure.code, "message": failure.message}
            self._event(type, **({} if planned is None else _of(planned)), **_plain(facts))
            if type == "job_done" and self.screen is not None:
                self.screen.show_file(facts["path"])
            if type in ("job_done", "job_skipped") and not self.as_json:
                print_result(str(facts["path"]), saved=facts["path"])
            if type in ("job_done", "job_failed"):
                self._count(type == "job_failed")

    def watch(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Show the steps of the picture that is drawn, on a terminal."""
        if self.screen is not None:
            yield from self.screen.previews(steps, tells_steps=not self.quiet)
            return
        if self._bar is None:
            yield from steps
            return
        from tqdm import tqdm

        with tqdm(desc="steps", file=sys.stderr, leave=False, dynamic_ncols=True, unit="step") as bar:
            for step in steps:
                bar.total = step.total
                bar.update()
                yield step

    def end(self, **counts: Any) -> None:
        """The batch has ended: the last line of all."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        seconds = round(time.monotonic() - self._begun, 3)
        self._event("summary", **counts, seconds=seconds)
        told = ", ".join(f"{count} {word.replace('_', ' ')}" for word, count in counts.items() if count)
        if not self.quiet and not self.as_json:
            print_note(f"{told or 'nothing to do'} in {duration(seconds)}")

    def _event(self, type: str, **facts: Any) -> None:
        if self.as_json:
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
            event = {"schema": EVENT_SCHEMA, "type": type, "time": now.replace("+00:00", "Z"), **facts}
            print_result(json.dumps(event))

    def _note(self, text: str) -> None:
        if self._bar is not None:
            self._bar.clear()
        print_note(text)

    def _count(self, failed: bool) -> None:
        """One more job has ended: move the bar, or print a line if the last one is some time ago."""
        self._ended += 1
        self._failed += failed
        if self._bar is not None:
            self._bar.update()
        now = time.monotonic()
        is_last = self._ended == self._total
        if self.quiet or self._bar is not None or is_last or now - self._last_line < INTERVAL:
            return
        self._last_line = now
        left = (now - self._begun) / self._ended * (self._total - self._ended)
        failed_text = f", {self._failed} failed" if self._failed else ""
        print_note(f"{self._ended}/{self._total} pictures{failed_text}, {duration(left)} left")


def _of(planned: Planned) -> dict[str, Any]:
    return {
        "index": planned.number + 1,
        "name": planned.job.name,
        "id": planned.id,
        "seed": planned.request.seed,
        "source": str(planned.job.source),
        **({"axes": dict(planned.job.axes)} if planned.job.axes else {}),
    }


def _plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts as JSON has them."""
    return {name: _plain_value(value) for name, value in facts.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, Request):
        return value.as_dict()
    return str(value) if isinstance(value, Path) else value
