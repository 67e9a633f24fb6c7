"""Plan: every job of a batch, checked, with its path, its identity and its place in line."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.estimate import Estimate
from sdcli.request.jobfile.batch_job import BatchJob
from sdcli.request.request import Request


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


def _group_keys(request: Request) -> tuple[object, ...]:
    altered = (request.lora, request.hypernet, request.embedding, request.control, request.ip_adapter)
    text = (*altered, request.prompt, request.negative, request.prompt_2, request.negative_2)
    return (request.loading, altered, text)
