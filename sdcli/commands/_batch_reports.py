"""Batch reports: what a batch leaves beside its pictures: tables, sheets, a page to look at, reports for CI."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sdcli import store
from sdcli.batch import journal as journals
from sdcli.batch.journal import Entry, Journal
from sdcli.commands._batch_options import BatchOptions
from sdcli.commands._streams import print_command, print_note
from sdcli.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

    from sdcli.batch.outcome import Outcome

SUFFIXES = {
    "junit": (".xml",),
    "markdown": (".md",),
    "index": (".csv",),
    "sheet": (".png",),
    "gallery": (".html", ".htm"),
    "openai": (".jsonl",),
}
"""Report -> the suffixes that its file may have."""

REPORT = "report"  # the state and the key of a journal's entry for a file that is no picture


def wants_outcomes(options: BatchOptions) -> bool:
    """True if something is made of what became of each job."""
    named = any(getattr(options, name) for name in SUFFIXES) or options.check is not None
    return named or bool(os.environ.get("GITHUB_STEP_SUMMARY") or os.environ.get("GITHUB_ACTIONS"))


def check_reports(options: BatchOptions) -> None:
    """Raise UsageError for a report whose name has another suffix."""
    for name, suffixes in SUFFIXES.items():
        path = getattr(options, name)
        if path is not None and Path(path).suffix.lower() not in suffixes:
            stem = Path(path).name.removesuffix(Path(path).suffix)
            raise UsageError(f"--{name} {path}: is written as {suffixes[0]}; name it {stem}{suffixes[0]}")


def write_reports(
    outcomes: Sequence[Outcome], journal: Journal, options: BatchOptions, title: str, seconds: float
) -> None:
    """Write the reports that the options ask for, and what the CI that this runs in shows."""
    from sdcli.batch.reports.markdown import annotations, markdown, summary_file

    writer = _Writer(journal)
    for name, make in _MAKERS.items():
        if path := getattr(options, name):
            for file, data in make(outcomes, Path(path), title, seconds, options.embed):
                writer.write(file, data)
    summary = summary_file()
    if options.markdown or summary:
        text = markdown(outcomes, title, seconds)
        if options.markdown:
            writer.write(Path(options.markdown), text.encode())
        if summary:
            _append(Path(summary), text)
    if os.environ.get("GITHUB_ACTIONS"):
        for line in annotations(outcomes):
            print_command(line)


def write_difference_sheet(rows: Sequence[tuple[str, Image, Image]], journal: Journal) -> None:
    """Write (caption, golden, picture) as a sheet beside the journal."""
    from sdcli.batch.reports.difference_sheet import difference_sheet

    title = journal.path.name.partition(".journal")[0]
    path = journal.path.with_name(store.safe_name(f"{title}-differences", ".png"))
    _Writer(journal).write(path, _png(difference_sheet(rows)))
    print_note(f"what changed is shown in {path}")


class _Writer:
    """Writes reports. One that this batch wrote before is renewed; any other file of its name is left as it is."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._ours = {
            (str((entry.more or {}).get("file")), entry.sha256)
            for entry in journals.read(journal.path)
            if entry.state == REPORT
        }

    def write(self, path: Path, data: bytes) -> None:
        """Write a report and tell where it is, if that is not where it was wanted."""
        sha256 = hashlib.sha256(data).hexdigest()
        wanted = path.absolute()
        if path.is_file() and (str(wanted), _sha256(path)) in self._ours:
            self._note(wanted, sha256)
            store.replace(data, path)
            return
        written = store.save(data, path, before_naming=lambda free: self._note(free.absolute(), sha256))
        if written != path:
            print_note(f"{path} is not of this batch and was left as it is; the report is {written}")

    def _note(self, path: Path, sha256: str) -> None:
        self._journal.add(Entry(REPORT, REPORT, REPORT, "", sha256, {"file": str(path)}))


Make = Callable[[Sequence["Outcome"], Path, str, float, bool], Iterator[tuple[Path, bytes]]]
"""(outcomes, path, title, seconds, embed) -> the files of a report."""


def _junit(
    outcomes: Sequence[Outcome], path: Path, title: str, seconds: float, embed: bool
) -> Iterator[tuple[Path, bytes]]:
    from sdcli.batch.reports.junit import junit

    yield path, junit(outcomes, title, seconds)


def _index(
    outcomes: Sequence[Outcome], path: Path, title: str, seconds: float, embed: bool
) -> Iterator[tuple[Path, bytes]]:
    from sdcli.batch.reports.index_csv import index_csv

    yield path, index_csv(outcomes).encode()


def _sheet(
    outcomes: Sequence[Outcome], path: Path, title: str, seconds: float, embed: bool
) -> Iterator[tuple[Path, bytes]]:
    from sdcli.batch.reports.sheet import sheets

    for number, image in enumerate(sheets(outcomes), 1):
        yield path.with_stem(path.stem + f"-{number}" * (number > 1)), _png(image)


def _gallery(
    outcomes: Sequence[Outcome], path: Path, title: str, seconds: float, embed: bool
) -> Iterator[tuple[Path, bytes]]:
    from sdcli.batch.reports.gallery import gallery

    for name, data in gallery(outcomes, title, embed, path):
        yield path.with_name(name), data


def _openai(
    outcomes: Sequence[Outcome], path: Path, title: str, seconds: float, embed: bool
) -> Iterator[tuple[Path, bytes]]:
    from sdcli.request.jobfile.openai_lines import Answer, answer_lines

    answers = [
        Answer(
            outcome.job.entry,
            outcome.job.request.seed,
            outcome.path.read_bytes() if outcome.path and outcome.failure is None else None,
            outcome.failure.kind if outcome.failure else "",
            outcome.failure.message if outcome.failure else "",
        )
        for outcome in outcomes
    ]
    yield path, "".join(f"{line}\n" for line in answer_lines(answers, int(time.time()))).encode()


_MAKERS: dict[str, Make] = {
    "junit": _junit,
    "index": _index,
    "sheet": _sheet,
    "gallery": _gallery,
    "openai": _openai,
}


def _append(path: Path, text: str) -> None:
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise store.write_error(path, error, "check GITHUB_STEP_SUMMARY") from error


def _png(image: Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
