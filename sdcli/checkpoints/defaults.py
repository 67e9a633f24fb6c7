"""Defaults: what a model's family decides where a request leaves it open."""

from __future__ import annotations

from typing import Any

from sdcli.checkpoints.family import Family
from sdcli.request.job import Job, job_of
from sdcli.request.prompt.emphases import EMPHASIS_OF
from sdcli.request.request import Request


def job_by(family: Family, size: int, request: Request) -> Job:
    """The job of a request with the defaults of a model of this family and size, which need not be loaded."""
    defaults: dict[str, Any] = {
        "steps": family.steps,
        "cfg": family.cfg,
        "sampler": family.sampler,
        "schedule": family.schedule,
        "guidance": family.guidance,
        "clip_skip": family.clip_skip,
        "emphasis": EMPHASIS_OF.get(request.like, family.emphasis),
        "width": size,
        "height": size,
    }
    if request.image is not None:
        defaults["strength"] = family.strength
    missing = {name: value for name, value in defaults.items() if getattr(request, name) is None}
    return job_of(request.with_seed().replace(**missing))
