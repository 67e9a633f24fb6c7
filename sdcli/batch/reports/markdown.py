"""Markdown: a batch as a page for people, which GitHub shows as a job's summary, and annotations of the job file."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from sdcli.batch.outcome import Outcome
from sdcli.batch.reports.described import (
    WORDS,
    name_of,
    reason_of,
    request_of,
    seconds_of,
    summary,
    value_text,
)

MAX_BYTES = 2**20 - 2**14
"""Bytes of the page: GitHub shows nothing of a summary over 1 MiB a step; the rest is left to what else is written."""
MAX_CELL = 300  # characters of a cell
MAX_PROMPT = 100  # characters of a prompt; the other reports hold it whole
MAX_ANNOTATIONS = 10  # of one kind that GitHub shows of a step; it drops the others without a word

_PUNCTUATION = re.compile(r"([\\`*_\[\]|~#!])")
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def markdown(outcomes: Sequence[Outcome], title: str, seconds: float) -> str:
    """A summary line, a table of what is wrong, and a table of the pictures, to 1 MiB together; it says what is cut.

    It names the files and shows none: GitHub strips pictures that are embedded.
    """
    page = _Page(f"## {_escaped(title)}\n\n{_escaped(summary(outcomes, seconds))}\n")
    wrong = [outcome for outcome in outcomes if not outcome.is_good]
    page.add_table(
        "What is wrong", ("Picture", "State", "Reason", "Where"), map(_wrong_row, wrong), len(wrong)
    )
    good = [outcome for outcome in outcomes if outcome.is_good]
    page.add_table(
        "Pictures", ("Picture", "File", "Prompt", "Axes", "Seconds"), map(_good_row, good), len(good)
    )
    return page.text


def summary_file() -> Path | None:
    """The file that GitHub shows as the summary of a step, where a step of GitHub Actions runs."""
    name = os.environ.get("GITHUB_STEP_SUMMARY")
    return Path(name) if name else None


def annotations(outcomes: Sequence[Outcome]) -> list[str]:
    """Lines that make GitHub mark the job file's lines of what is wrong: the first ten, then a warning that counts."""
    wrong = [outcome for outcome in outcomes if not outcome.is_good]
    lines = [_annotation(outcome) for outcome in wrong[:MAX_ANNOTATIONS]]
    if more := len(wrong) - len(lines):
        lines.append(
            f"::warning::{more} more pictures failed or differ; the summary and the reports list them"
        )
    return lines


class _Page:
    """Text that grows up to MAX_BYTES."""

    def __init__(self, head: str) -> None:
        self.text = head
        self._size = len(head.encode("utf-8", "replace"))

    def add_table(
        self, heading: str, columns: Sequence[str], rows: Iterator[Sequence[str]], total: int
    ) -> None:
        """Add a table as far as there is room, and how many of its rows are left out; none if there are no rows."""
        if not total:
            return
        lines = [f"\n### {heading}\n", _row(columns), _row(["---"] * len(columns))]
        self._add("\n".join(lines) + "\n")
        for i, row in enumerate(rows):
            if not self._add(_row(row) + "\n"):
                self.text += f"\n{total - i} more are not shown, for a summary holds 1 MiB.\n"
                return

    def _add(self, text: str) -> bool:
        """Add the text if there is room for it."""
        size = len(text.encode("utf-8", "replace"))
        if self._size + size > MAX_BYTES:
            return False
        self.text += text
        self._size += size
        return True


def _wrong_row(outcome: Outcome) -> Sequence[str]:
    return [
        _cell(name_of(outcome)),
        WORDS[outcome.state],
        _cell(reason_of(outcome)),
        _cell(str(outcome.job.source)),
    ]


def _good_row(outcome: Outcome) -> Sequence[str]:
    axes = ", ".join(f"{axis} {value_text(value)}" for axis, value in outcome.job.axes.items())
    path = "" if outcome.path is None else str(outcome.path)
    prompt = request_of(outcome).prompt
    cells = (name_of(outcome), path, prompt if len(prompt) <= MAX_PROMPT else f"{prompt[:MAX_PROMPT]}…", axes)
    seconds = "before" if outcome.state == "skipped" else f"{seconds_of(outcome):.1f}"
    return [*map(_cell, cells), seconds]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    """A text as one cell: on one line, cut, and shown as it is."""
    words = " ".join(text.split())
    return _escaped(words if len(words) <= MAX_CELL else f"{words[: MAX_CELL - 1]}…")


def _escaped(text: str) -> str:
    """The text with all that Markdown and HTML would take for their own marked as text."""
    line = " ".join(text.split()).encode("utf-8", "replace").decode("utf-8")
    return _PUNCTUATION.sub(r"\\\1", "".join(_HTML.get(each, each) for each in line))


def _annotation(outcome: Outcome) -> str:
    source = outcome.job.source
    places = {"file": source.file, "line": str(source.line) if source.line else "", "title": name_of(outcome)}
    if source.file == "-":
        del places["file"]
    properties = ",".join(f"{key}={_property(value)}" for key, value in places.items() if value)
    return f"::error {properties}::{_data(f'{WORDS[outcome.state]}: {reason_of(outcome)}')}"


def _data(text: str) -> str:
    """A message of GitHub's workflow commands: on one line."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """A property of GitHub's workflow commands, which a colon or a comma would end."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")
