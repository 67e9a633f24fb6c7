"""Prompts: the parts of a job's prompts for each text encoder, and what a model cannot be told."""

from __future__ import annotations

from collections.abc import Sized

from sdcli.errors import UsageError
from sdcli.request.job import Job
from sdcli.request.prompt import reading


def check_prompts(name: str, encoders: Sized, job: Job) -> None:
    """Raise UsageError for prompts that the model of this name, with these text encoders, cannot be told."""
    language = reading.dialect(job.emphasis, job.like)
    for prompt in ("prompt", "negative"):
        if getattr(job.request, f"{prompt}_2") is not None and len(encoders) < 2:
            raise UsageError(
                f"--{prompt}-2: {name} has one text encoder, which reads the {prompt}; leave it out"
            )
        if getattr(job.request, f"{prompt}_2") is not None and job.emphasis == "compel":
            raise UsageError(f"--{prompt}-2: compel gives both text encoders one prompt; leave it out")
        for text in {part.text for each in parts_of(job, language, job.steps, prompt) for part in each}:
            language.pieces(text)


def parts_of(job: Job, language: reading.Dialect, steps: int, name: str) -> list[tuple[reading.Part, ...]]:
    """The parts of a job's prompt or negative prompt, each as it is for the first and for the second text encoder.

    `steps` are those that the run makes. Raises UsageError if the two have not equally many parts.
    """
    timeline = language.timeline(
        job.sampler.name, job.steps if language.from_zero else steps, job.first_pass_steps
    )
    parts, second = (
        reading.read(getattr(job, each), language, timeline, negative=name == "negative")
        for each in (name, f"{name}_2")
    )
    if len(second) == 1:
        second *= len(parts)
    if len(second) != len(parts):
        raise UsageError(
            f"--{name}-2 has {len(second)} parts joined by AND, and the {name} has {len(parts)}; give as many, or one"
        )
    return list(zip(parts, second, strict=True))
