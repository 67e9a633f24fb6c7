"""Outcome: what became of one job of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sdcli.batch.comparison import Comparison
from sdcli.errors import SdError
from sdcli.request.jobfile.batch_job import BatchJob
from sdcli.request.request import Request

EVENT_SCHEMA = "sd.event/1"
"""The form of the events of --json, and of a server; a word that is added later keeps it, a changed one does not."""

State = Literal["done", "skipped", "failed", "not_run", "changed", "new", "gone"]
"""done: drawn now. skipped: drawn by an earlier run. not_run: the batch ended before it.

Where a batch is compared with goldens: changed: differs from its golden; new: it has none; gone: a golden has no job.
"""
GOOD: tuple[State, ...] = ("done", "skipped")


@dataclass(frozen=True)
class Failure:
    """Why a job failed: the kind of the SdError (`kind`, a word that never changes; `bug` for any other exception)."""

    kind: str
    code: int  # the exit code that `sd` would end with
    message: str

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """The failure that an exception stands for; one that is no SdError is a bug."""
        if isinstance(error, SdError):
            return cls(error.kind, error.code, str(error))
        return cls("bug", 1, f"{type(error).__name__}: {error}")


@dataclass(frozen=True)
class Outcome:
    """What became of one job.

    `request` is the one that the picture records, where there is one: nothing in it is open. `facts` are those of its
    metadata (model, versions, …), `seconds` those of each stage. `sha256` is that of the file, in hex.
    """

    job: BatchJob
    state: State
    path: Path | None = None
    request: Request | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    sha256: str = ""
    failure: Failure | None = None
    comparison: Comparison | None = None

    @property
    def is_good(self) -> bool:
        """True if nothing is wrong with it."""
        return self.state in GOOD
