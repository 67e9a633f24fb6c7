"""Plan: every job of a batch, checked before anything is loaded, with its path, its identity and its place in line."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from sdcli import settings, store
from sdcli.batch.identity import FileHashes, identity, job_key, machine_of, network_files, request_key
from sdcli.checkpoints import checkpoint
from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.checkpoints.preflight import preflight
from sdcli.checkpoints.recorded import recorded
from sdcli.errors import SdError, UsageError
from sdcli.estimate import Estimate, estimate
from sdcli.request.inputs import open_inputs
from sdcli.request.jobfile.batch_job import BatchJob, Fault, JobFileError
from sdcli.request.picture import encoding_of
from sdcli.request.request import Loading, Request

SEEDS = ("seed", "variation_seed")
COSTS_NOTHING = ("prompt", "negative", "prompt_2", "negative_2", "variants", *SEEDS)
"""Fields on whose values the time and memory of a picture do not depend."""


@dataclass(frozen=True)
class Destination:
    """Where the pictures of a batch go: the folder that its journal is in, and what the options say of the files."""

    root: Path
    template: str | None = None  # below the root; None: by each job's name, or its prompt and seed
    suffixes: tuple[str, ...] = (".png",)  # that a name may have; the first is that of a name without one
    quality: int | None = None
    metadata: bool = True


@dataclass(frozen=True)
class Planned:
    """A job of the plan. `path` is below the batch's root; `number` is its place in the file.

    `key` is the same on every machine. `found` is its model, and `expected` what its picture takes, if that is known.
    """

    number: int
    job: BatchJob
    request: Request  # as the picture will record it, but for the model's defaults
    path: Path
    key: str
    identity: str
    found: Checkpoint
    expected: Estimate | None
    notes: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """A short name of the job, for people."""
        return self.key[:8]


@dataclass(frozen=True)
class Plan:
    """The jobs of a batch in the order of their files, and the destination that they share."""

    jobs: tuple[Planned, ...]
    destination: Destination

    @cached_property
    def order(self) -> tuple[Planned, ...]:
        """The jobs as they are best drawn: by model, then by what alters it, then by prompt, else as in the file."""
        first: dict[object, int] = {}
        keys = [_group_keys(planned.request) for planned in self.jobs]
        for each in keys:
            for key in each:
                first.setdefault(key, len(first))
        order = sorted(range(len(self.jobs)), key=lambda i: ([first[key] for key in keys[i]], i))
        return tuple(self.jobs[i] for i in order)

    def shard(self, index: int, count: int) -> Plan:
        """Part `index` of `count`, counted from 1: by each job's key, so that no other job decides where it goes."""
        jobs = [planned for planned in self.jobs if int(planned.key[:15], 16) % count == index - 1]
        return Plan(tuple(jobs), self.destination)


def make_plan(jobs: Sequence[BatchJob], destination: Destination, allow_slow: bool = False) -> Plan:
    """The plan of some jobs; raises JobFileError with every fault that headers and opened pictures can tell."""
    planner = _Planner(destination, allow_slow)
    planned, faults = [], dict[Fault, None]()  # a fault that all jobs of an entry have is told once
    for number, job in enumerate(jobs):
        try:
            planned.append(planner.plan(number, job))
        except SdError as error:
            faults[Fault(job.source, str(error))] = None
    faults |= dict.fromkeys(_same_paths(planned))
    if faults:
        raise JobFileError(list(faults))
    return Plan(tuple(planned), destination)


@dataclass(frozen=True)
class _Checked:
    """What is known of a request, whatever its seed is; `files` are the sha256 of what it reads."""

    found: Checkpoint
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
    machines: dict[object, Mapping[str, object]] = field(default_factory=dict)
    inside: set[Path] = field(default_factory=set)  # folders that are known to lie below the root

    def __post_init__(self) -> None:
        self.embeddings = settings.embeddings_folder()

    def plan(self, number: int, job: BatchJob) -> Planned:
        asked = job.request.with_seed()
        request = recorded(
            asked, self.embeddings
        )  # a picture that is made again has the embeddings that it records
        asked_key = request_key(asked)
        path = self._path(number, job, asked, asked_key[:8])
        checked = self._check(request, path.suffix)
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
            (*job.notes, *checked.notes),
        )

    def _check(self, request: Request, suffix: str) -> _Checked:
        """What is known of a request whatever its seed is; raises the SdError that drawing it would end with."""
        of_shape = tuple(value for name, value in vars(request).items() if name not in SEEDS)
        if (of_shape, suffix) in self.checked:
            return self.checked[of_shape, suffix]
        found = self._checkpoint(request.loading)
        inputs = open_inputs(request)
        encoding = encoding_of(suffix, self.destination.quality, request)
        done, notes = preflight(found, request, inputs, encoding)
        expected = self._estimate(found, inputs.fill_in_size(request))
        if expected is not None and not self.allow_slow:
            expected.check(f"{done.width}x{done.height}")
        files = {"model": self.model_hashes[request.loading], **inputs.facts}
        files |= {f"network {i}": self.hashes.of([file]) for i, file in enumerate(network_files(done))}
        files["output"] = f"{self.destination.quality} {self.destination.metadata}"
        self.checked[of_shape, suffix] = checked = _Checked(found, files, expected, tuple(notes))
        return checked

    def _path(self, number: int, job: BatchJob, asked: Request, id: str) -> Path:
        """Where the job's picture goes below the root; raises UsageError for a path that leads out of it."""
        template = job.out or self.destination.template
        more = {
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
            self.model_hashes[loading] = self.hashes.of(found.paths)
        return self.checkpoints[loading]

    def _estimate(self, found: Checkpoint, request: Request) -> Estimate | None:
        """The estimate of a request, which does not depend on its words and its seed."""
        key = (found.path, *(value for name, value in vars(request).items() if name not in COSTS_NOTHING))
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
        raise UsageError(
            f"out {template!r}: leads out of {root}; give a path below it, and the folder with -o"
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


def _group_keys(request: Request) -> tuple[object, ...]:
    altered = (request.lora, request.hypernet, request.embedding, request.control, request.ip_adapter)
    text = (*altered, request.prompt, request.negative, request.prompt_2, request.negative_2)
    return (request.loading, altered, text)


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
                    f"{_title(each.job)} and {_title(first.job)} (line {first.job.source.line}) are both called "
                    f"{each.path.as_posix()}; give them a name or an out of their own, such as {{index}} or {{cfg}}",
                )
            )
    return faults


def _title(job: BatchJob) -> str:
    return repr(job.name or job.request.prompt[:40])
