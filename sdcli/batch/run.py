"""Run: draws what a plan still lacks, saves and journals each picture, and says what became of every job."""

from __future__ import annotations

import hashlib
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcli import store
from sdcli.batch import journal as journals
from sdcli.batch.executor import Drawn, Executor, Failed, Lost, Task
from sdcli.batch.journal import Entry, Journal
from sdcli.batch.outcome import Failure, Outcome, State
from sdcli.batch.plan import Plan, Planned
from sdcli.errors import SdError, WriteError
from sdcli.request.request import Request

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

MAX_UNSAVED = 2  # pictures that wait to be encoded and saved while the next one is drawn

Tell = Callable[..., None]
"""Told of what happens, as `tell(type, planned, **facts)`, from any thread; see `commands/_batch_output.py`."""


@dataclass
class Record:
    """What is known of a job while a batch runs; the rest is in the journal."""

    state: State = "not_run"
    path: str = ""  # below the root, as it was written
    sha256: str = ""
    failure: Failure | None = None


@dataclass
class Records:
    """The records of a plan's jobs, by their numbers."""

    plan: Plan
    by_number: dict[int, Record] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.by_number = {planned.number: Record() for planned in self.plan.jobs}

    def count(self, *states: State) -> int:
        """How many jobs are in one of these states."""
        return sum(record.state in states for record in self.by_number.values())

    def outcomes(self, journal: Path) -> tuple[Outcome, ...]:
        """The outcome of each job in the order of the file, with what the journals say of its picture."""
        told = {entry.identity: entry.more for entry in entries(journal) if entry.state == "done"}
        root = self.plan.destination.root
        return tuple(
            _outcome(planned, self.by_number[planned.number], root, told.get(planned.identity) or {})
            for planned in self.plan.jobs
        )


def journal_path(root: Path, title: str, shard: tuple[int, int] | None = None) -> Path:
    """Where the journal of a batch is, in the folder of its pictures; each shard has its own."""
    part = f"-{shard[0]}-of-{shard[1]}" if shard else ""
    return root / store.safe_name(f"{title}.journal{part}", ".jsonl")


def entries(journal: Path) -> Iterable[Entry]:
    """The entries of a batch's journal, and of those of its shards in the same folder."""
    title = journal.name.partition(".journal")[0]
    for path in sorted(journal.parent.glob(f"{_literal(title)}.journal*.jsonl")):
        yield from journals.read(path)


def resume(records: Records, journal: Path, retry_failed: bool = False) -> None:
    """Take over what earlier runs finished: a job is done if the file that they wrote for it is still as it was.

    What failed before counts as failed, unless it is to be tried again.
    """
    by_identity: dict[str, list[Entry]] = {}
    for entry in entries(journal):
        kept = Entry(entry.state, entry.key, entry.identity, entry.path, entry.sha256)
        by_identity.setdefault(entry.identity, []).append(entry if entry.state == "failed" else kept)
    root = records.plan.destination.root
    for planned in records.plan.jobs:
        record = records.by_number[planned.number]
        for entry in reversed(by_identity.get(planned.identity, [])):
            if entry.state == "failed":
                if not retry_failed and record.state == "not_run":
                    record.state, record.failure = "failed", _recorded_failure(entry)
            elif sha256_of(root / entry.path) == entry.sha256:
                record.state, record.path, record.sha256, record.failure = (
                    "skipped",
                    entry.path,
                    entry.sha256,
                    None,
                )
                break


@dataclass
class Run:
    """Draws the jobs of a plan that are not done, and keeps their records."""

    records: Records
    executor: Executor
    journal: Journal
    tell: Tell
    fail_fast: bool = False
    last: tuple[Planned, Mapping[str, float]] | None = (
        None  # the last job that was drawn, and its seconds by stage
    )

    def __post_init__(self) -> None:
        self._planned = {planned.number: planned for planned in self.records.plan.jobs}
        self._saving: deque[Future[None]] = deque()

    def run(self) -> None:
        """Draw what is not done; each picture is saved while the next one is drawn.

        Raises WriteError if a picture or the journal cannot be written, for the next one could not be either, and the
        SdError of an executor that can draw nothing. What was drawn until then is saved, also if this is interrupted.
        """
        destination = self.records.plan.destination
        tasks = [
            Task(
                planned.number,
                planned.request,
                planned.path.suffix,
                destination.quality,
                destination.metadata,
            )
            for planned in self.records.plan.order
            if self.records.by_number[planned.number].state == "not_run"
        ]
        from concurrent.futures import ThreadPoolExecutor  # a plan does without

        with ThreadPoolExecutor(1, "sd-save") as saver:
            self._draw(tasks, saver)
            self._wait(0)

    def _draw(self, tasks: Sequence[Task], saver: ThreadPoolExecutor) -> None:
        with closing(self.executor.run(tasks, self._started)) as events:  # type: ignore[type-var]
            for event in events:
                if isinstance(event, Lost):
                    self.tell("warning", message=event.message)
                elif isinstance(event, Failed):
                    self._failed(self._planned[event.number], event.failure, event.trace)
                else:
                    self._saving.append(saver.submit(self._save, event))
                self._wait(MAX_UNSAVED)
                if self.fail_fast and self.records.count("failed"):
                    return

    def _wait(self, unsaved: int) -> None:
        """Wait until at most so many pictures are not saved yet; raises what saving one raised."""
        while self._saving and (len(self._saving) > unsaved or self._saving[0].done()):
            self._saving.popleft().result()

    def _started(self, number: int) -> None:
        self.tell("job_started", self._planned[number])

    def _save(self, drawn: Drawn) -> None:
        """Encode, save and journal a picture. The journal knows the file before it has a name, and when it has one."""
        planned = self._planned[drawn.number]
        root = self.records.plan.destination.root
        try:
            data = drawn.encode()
        except Exception as error:  # of any kind: the other pictures are to be saved
            self._failed(
                planned, Failure.of(error), "" if isinstance(error, SdError) else traceback.format_exc()
            )
            return
        sha256 = hashlib.sha256(data).hexdigest()

        def journal_name(path: Path) -> None:
            self.journal.add(Entry("writing", planned.key, planned.identity, _below(path, root), sha256))

        path = _below(store.save(data, root / planned.path, before_naming=journal_name), root)
        if path != planned.path.as_posix():
            message = (
                f"{root / planned.path} is another picture and was left as it is; this one is {root / path}"
            )
            self.tell("warning", planned, message=message)
        more = {
            "name": planned.job.name,
            "request": drawn.request.as_record(),
            "facts": dict(drawn.facts),
            "seconds": dict(drawn.seconds),
        }
        self.journal.add(Entry("done", planned.key, planned.identity, path, sha256, more))
        record = self.records.by_number[drawn.number]
        record.state, record.path, record.sha256 = "done", path, sha256
        self.last = (planned, drawn.seconds)
        self.tell(
            "job_done", planned, path=root / path, seconds=drawn.seconds, request=drawn.request, sha256=sha256
        )

    def _failed(self, planned: Planned, failure: Failure, trace: str = "") -> None:
        if failure.kind == "write":
            raise WriteError(failure.message)
        self.journal.add(Entry("failed", planned.key, planned.identity, more={"failure": vars(failure)}))
        record = self.records.by_number[planned.number]
        record.state, record.failure = "failed", failure
        self.tell("job_failed", planned, failure=failure, trace=trace)


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def sha256_of(path: Path) -> str:
    """The sha256 of a file; empty if it is not there or cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _recorded_failure(entry: Entry) -> Failure:
    told = (entry.more or {}).get("failure")
    told = told if isinstance(told, dict) else {}
    kind, code, message = (
        told.get("kind", "failed"),
        told.get("code", 1),
        told.get("message", "failed before"),
    )
    return Failure(str(kind), code if isinstance(code, int) else 1, str(message))


def _outcome(planned: Planned, record: Record, root: Path, told: Mapping[str, Any]) -> Outcome:
    path = root / record.path if record.path else None
    request = _recorded_request(told.get("request")) or planned.request
    facts, seconds = told.get("facts"), told.get("seconds")
    return Outcome(
        planned.job,
        record.state,
        path,
        request,
        facts if isinstance(facts, dict) else {},
        seconds if isinstance(seconds, dict) else {},
        record.sha256,
        record.failure,
    )


def _recorded_request(values: object) -> Request | None:
    if not isinstance(values, dict):
        return None
    try:
        return Request.from_dict(values)
    except SdError:  # of another version of this program
        return None


def _literal(text: str) -> str:
    """The text as a pattern that matches itself alone."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)
