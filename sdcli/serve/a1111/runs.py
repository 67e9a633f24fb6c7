"""Runs: the requests for pictures that are being answered, what is told of their progress, and how they are ended."""

from __future__ import annotations

import base64
import datetime
import time
from dataclasses import dataclass, field
from typing import Any

from sdcli.serve.queue import MAX_PREVIEWS, Job, Queue


@dataclass(eq=False)
class Run:
    """One request for pictures while it is being answered."""

    jobs: list[Job]
    began: float = field(default_factory=time.monotonic)
    timestamp: str = field(default_factory=lambda: f"{datetime.datetime.now():%Y%m%d%H%M%S}")
    is_interrupted: bool = False
    is_skipped: bool = False

    @property
    def current(self) -> Job | None:
        """The job that is drawn, or is next."""
        return next((job for job in self.jobs if not job.has_ended), None)

    @property
    def progress(self) -> float:
        """The share of its steps that are taken, 0.01 to 1: 0 would mean to clients that nothing is drawn."""
        shares = [1.0 if job.has_ended else job.drawing.step / max(1, job.drawing.steps) for job in self.jobs]
        return max(0.01, sum(shares) / len(shares))


@dataclass
class Runs:
    """The runs of the A1111 API, the oldest first."""

    queue: Queue
    found: list[Run] = field(default_factory=list)

    @property
    def current(self) -> Run | None:
        """The run whose picture is drawn, or else the oldest."""
        drawn = (run for run in self.found if run.current and run.current.state == "running")
        return next(drawn, next(iter(self.found), None))

    def interrupt(self) -> None:
        """End the current run; what it has drawn is its answer."""
        if run := self.current:
            run.is_interrupted = True
            self.queue.cancel(*run.jobs)

    def skip(self) -> None:
        """End the picture that is drawn, and go on with the next of the run."""
        if (run := self.current) and run.current:
            run.is_skipped = True
            self.queue.cancel(run.current)

    def told(self, has_image: bool) -> dict[str, Any]:
        """What /progress answers: all zeros if nothing is drawn for this API."""
        run = self.current
        job = run.current if run else None
        if run is None or job is None:
            return {
                "progress": 0.0,
                "eta_relative": 0.0,
                "state": _state(),
                "current_image": None,
                "textinfo": None,
            }
        progress, passed = run.progress, time.monotonic() - run.began
        image = None
        if has_image:
            job.want_previews(MAX_PREVIEWS)
            previews = job.drawing.previews
            image = base64.b64encode(previews[-1]).decode("ascii") if previews else None
        return {
            "progress": progress,
            "eta_relative": passed / progress - passed,
            "state": _state(run, job),
            "current_image": image,
            "textinfo": None,
        }


def _state(run: Run | None = None, job: Job | None = None) -> dict[str, Any]:
    return {
        "skipped": bool(run and run.is_skipped),
        "interrupted": bool(run and run.is_interrupted),
        "stopping_generation": False,
        "job": f"Batch {run.jobs.index(job) + 1} out of {len(run.jobs)}" if run and job else "",
        "job_count": len(run.jobs) if run else 0,
        "job_timestamp": run.timestamp if run else "0",
        "job_no": run.jobs.index(job) if run and job else 0,
        "sampling_step": job.drawing.step if job else 0,
        "sampling_steps": job.drawing.steps if job else 0,
    }
