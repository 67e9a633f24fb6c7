"""Planner: makes the jobs of a batch into its plan; each is checked before anything is loaded."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

from sdcli import settings, store
from sdcli.batch.identity import FileHashes, identity, job_key, machine_of, request_key
from sdcli.batch.plan import Destination, Plan, Planned
from sdcli.checkpoints import checkpoint
from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.checkpoints.embeddings import still_named
from sdcli.checkpoints.hashes import digest
from sdcli.checkpoints.preflight import check_settings, check_words
from sdcli.checkpoints.recorded import recorded
from sdcli.errors import SdError, UsageError
from sdcli.estimate import Estimate, estimate
from sdcli.request.fields import declared_in
from sdcli.request.inputs import open_inputs
from sdcli.request.job import Job
from sdcli.request.jobfile.batch_job import BatchJob, Fault, JobFileError, in_order
from sdcli.request.picture import encoding_of
from sdcli.request.request import Loading, Request

OF_MODEL = ("steps", "cfg", "sampler", "schedule")
"""Fields that a file's name may hold, and that the model decides if the job does not."""

SEEDS = ("seed", "variation_seed")
WORDS = ("prompt", "negative")
COSTS_NOTHING = ("prompt", "negative", "prompt_2", "negative_2", "variants", *SEEDS)
"""Fields on whose values the time and memory of a picture do not depend."""

settings_of = attrgetter(*(name for name in declared_in(Request) if name not in (*SEEDS, *WORDS)))
"""All of a request but its seeds and words."""

what_costs = attrgetter(*(name for name in declared_in(Request) if name not in COSTS_NOTHING))
"""All of a request that the time and memory of its picture may depend on."""


def make_plan(
    jobs: Sequence[BatchJob], destination: Destination, allow_slow: bool = False, known: Sequence[Fault] = ()
) -> Plan:
    """The plan of some jobs; raises JobFileError with every fault that headers and opened pictures can tell.

    `known` are faults that their files have; with any, there is no plan, and those of the other jobs are told as well.
    """
    planner = _Planner(destination, allow_slow)
    planned, faults = [], dict.fromkeys(known)  # a fault that all jobs of an entry have is told once
    for number, job in enumerate(jobs):
        try:
            planned.append(planner.plan(number, job))
        except SdError as error:
            faults[Fault(job.source, str(error))] = None
    faults |= dict.fromkeys(_same_paths(planned))
    if faults:
        raise JobFileError(in_order(faults))
    return Plan(tuple(planned), destination)


@dataclass(frozen=True)
class _Checked:
    """What is known of a request, whatever its seed and words are; `files` are the sha256 of what it reads."""

    found: Checkpoint
    done: Job  # of the first such request
    files: Mapping[str, str]
    expected: Estimate | None
    notes: tuple[str, ...]


@dataclass
class _Planner:
    """Makes jobs into planned ones, and reads each model and file once for all of them."""

    destination: Destination
    allow_slow: bool
    hashes: FileHashes = field(default_factory=FileHashes)
    checkpoints: dict[Loading, Checkpoint] = field(default_factory=dict)
    model_hashes: dict[Loading, str] = field(default_factory=dict)
    estimates: dict[object, Estimate | None] = field(default_factory=dict)
    checked: dict[object, _Checked] = field(default_factory=dict)
    words: dict[object, tuple[str, ...]] = field(default_factory=dict)  # notes on prompts
    machines: dict[object, Mapping[str, object]] = field(default_factory=dict)
    inside: set[Path] = field(default_factory=set)  # folders that are known to lie below the root

    def __post_init__(self) -> None:
        self.embeddings = settings.network_folders("embeddings")

    def plan(self, number: int, job: BatchJob) -> Planned:
        asked = job.request.with_seed()
        asked = still_named(asked) if job.sheds_embeddings else asked
        request = recorded(asked, self.embeddings if job.finds_embeddings else ())
        asked_key = request_key(asked)
        path = self._path(number, job, asked, asked_key[:8])
        checked, notes = self._check(request, path.suffix)
        key = job_key(asked_key, path)
        own = identity(key, checked.files, self._machine(request))
        return Planned(
            number,
            job,
            request,
            path,
            key,
            own,
            checked.found,
            checked.expected,
            (*job.notes, *notes),
        )

    def _check(self, request: Request, suffix: str) -> tuple[_Checked, Sequence[str]]:
        """What is known of a request, and all notes on it; raises the SdError that drawing it would end with.

        Its settings are checked once, and its words once for these settings.
        """
        settings = (suffix, *settings_of(request))
        if settings not in self.checked:
            self.checked[settings] = self._check_settings(request, suffix)
        checked = self.checked[settings]
        words = (*settings, request.prompt, request.negative)
        if words not in self.words:
            job = checked.done.with_words(request.prompt, request.negative)
            self.words[words] = tuple(check_words(checked.found, job, request.emphasis))
        return checked, (*checked.notes, *self.words[words])

    def _check_settings(self, request: Request, suffix: str) -> _Checked:
        """What is known of a request's settings, whatever its words are."""
        found = self._checkpoint(request.loading)
        inputs = open_inputs(request)
        encoding = encoding_of(suffix, self.destination.quality, request)
        done, notes = check_settings(found, request, inputs, encoding)
        expected = self._estimate(found, inputs.fill_in_size(request))
        if expected is not None and not self.allow_slow:
            expected.check(f"{done.width}x{done.height}")
        files = {"model": self.model_hashes[request.loading], **self.hashes.of(request)}
        files["output"] = f"{self.destination.quality} {self.destination.metadata}"
        return _Checked(found, done, files, expected, tuple(notes))

    def _path(self, number: int, job: BatchJob, asked: Request, id: str) -> Path:
        """Where the job's picture goes below the root; raises UsageError for a path that leads out of it."""
        if job.out is not None and self.destination.template is not None:
            raise UsageError(
                f"out {job.out!r}: -o {self.destination.template} says how files are called too; leave one of them "
                "out, or give -o a folder alone"
            )
        template = job.out or self.destination.template
        family = self._checkpoint(asked.loading).family
        more = {
            **{name: getattr(family, name) for name in OF_MODEL if getattr(asked, name) is None},
            "name": job.name,
            "index": number + 1,
            "id": id,
            **{axis: value for axis, value in job.axes.items() if axis not in ("prompt", "name")},
        }
        default = "{name}" if job.name else store.DEFAULT_NAME + "".join(map(_in_name, job.axes.items()))
        path = store.output_path(template, asked, *self.destination.suffixes, default_name=default, more=more)
        if path.parent not in self.inside or path.is_absolute():
            _check_inside(path, self.destination.root, template or "")
            self.inside.add(path.parent)
        return path

    def _checkpoint(self, loading: Loading) -> Checkpoint:
        if loading not in self.checkpoints:
            self.checkpoints[loading] = found = checkpoint.read_for(loading)
            self.model_hashes[loading] = digest(found.paths) if found.paths else ""
        return self.checkpoints[loading]

    def _estimate(self, found: Checkpoint, request: Request) -> Estimate | None:
        """The estimate of a request, which does not depend on its words and its seed."""
        key = (found.path, *what_costs(request))
        if key not in self.estimates:
            self.estimates[key] = estimate(found, request)
        return self.estimates[key]

    def _machine(self, request: Request) -> Mapping[str, object]:
        key = (request.device, request.dtype, request.threads, request.engine)
        if key not in self.machines:
            self.machines[key] = machine_of(request)
        return self.machines[key]


def _check_inside(path: Path, root: Path, template: str) -> None:
    """Raise UsageError for a path that a job file gives and that leads out of the root, also by a link."""
    if path.is_absolute() or path.drive or ".." in path.parts:
        raise UsageError(f"out {template!r}: leads out of {root}; give a path below it")
    for name in path.parent.parts:
        if len(name.encode()) > store.MAX_NAME_BYTES or not name.isprintable():
            raise UsageError(
                f"out: the folder {name[:20]!r}… is longer than {store.MAX_NAME_BYTES} bytes or holds control "
                "characters; give it a plain name"
            )
    whole = root / path
    if not Path(os.path.realpath(whole.parent)).is_relative_to(os.path.realpath(root)):
        raise UsageError(f"out {template!r}: {whole.parent} is a link that leads out of {root}")


def _in_name(axis: tuple[str, object]) -> str:
    """What tells a picture of a sweep from the others in its name: `-cfg{cfg}`, but `-{sampler}` for words."""
    name, value = axis
    if name in ("prompt", "seed"):
        return ""
    return f"-{'' if isinstance(value, str) and not value[:1].isdigit() else name}{{{name}}}"


def _same_paths(planned: Iterable[Planned]) -> list[Fault]:
    """A fault for each job whose picture would have the name of an earlier one's, on any file system."""
    seen: dict[str, Planned] = {}
    faults = []
    for each in planned:
        first = seen.setdefault(each.path.as_posix().casefold(), each)
        if first is not each:
            faults.append(
                Fault(
                    each.job.source,
                    f"{_title(each.job)} and {_title(first.job)} are both called {each.path.as_posix()}; put what "
                    "tells them apart into the name or the out, such as {index} or {cfg}",
                )
            )
    return faults


def _title(job: BatchJob) -> str:
    """What tells a job from the others: its name or prompt, its seed, and its line in a file."""
    line = f", line {job.source.line}" if job.source.line else ""
    return f"{job.name or job.request.prompt[:40]!r} (seed {job.request.seed}{line})"
