"""Described: an outcome in the words and values that every report shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sdcli.batch.outcome import Outcome, State
from sdcli.request.request import Request

SETTINGS = (
    "seed", "prompt", "negative", "model", "sampler", "schedule", "steps", "cfg", "width", "height",
)  # fmt: skip
"""The settings that every report has, in this order."""

WORDS: Mapping[State, str] = {
    "done": "done",
    "skipped": "drawn before",
    "failed": "failed",
    "not_run": "not run",
    "changed": "changed",
    "new": "new",
    "gone": "gone",
}
"""State -> how a person reads it."""

REASONS: Mapping[State, str] = {
    "skipped": "drawn by an earlier run",
    "not_run": "the batch ended before it",
    "new": "it has no golden; accept it, or take the job out",
    "gone": "a golden has no job any more; take it out, or bring the job back",
}
"""Why an outcome is in its state, where nothing else says so."""


def request_of(outcome: Outcome) -> Request:
    """The request that the picture records; without a picture, the one that was asked for."""
    return outcome.request or outcome.job.request


def name_of(outcome: Outcome) -> str:
    """The job's name; without one, the picture's file name, or else its prompt and seed."""
    if outcome.job.name:
        return outcome.job.name
    if outcome.path is not None:
        return outcome.path.name
    request = request_of(outcome)
    return (
        " ".join(f"{request.prompt} {'' if request.seed is None else request.seed}".split())
        or "unconditional"
    )


def seconds_of(outcome: Outcome) -> float:
    """Seconds that the picture took, all stages together."""
    return round(sum(outcome.seconds.values()), 3)


def reason_of(outcome: Outcome) -> str:
    """Why the outcome is in its state; empty for a picture that was drawn."""
    if outcome.failure is not None:
        return outcome.failure.message
    if outcome.comparison is not None and outcome.comparison.message:
        return outcome.comparison.message
    return REASONS.get(outcome.state, "")


def kind_of(outcome: Outcome) -> str:
    """A word for what is wrong that never changes: the failure's kind, or the state."""
    return outcome.failure.kind if outcome.failure else outcome.state


def settings_of(outcome: Outcome) -> dict[str, Any]:
    """Every setting of `SETTINGS`, then the other fields of the request that differ from their defaults."""
    request = request_of(outcome)
    return {name: getattr(request, name) for name in SETTINGS} | {
        name: value for name, value in request.as_dict().items() if name not in SETTINGS
    }


def axes_of(outcomes: Iterable[Outcome]) -> list[str]:
    """The names of all axes of these outcomes, in the order in which they are first met."""
    return list(dict.fromkeys(axis for outcome in outcomes for axis in outcome.job.axes))


def value_text(value: Any) -> str:
    """A value as a person types it: 7 for 7.0, and a list with commas."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(value_text, value))
    return str(value)


def states(outcomes: Sequence[Outcome]) -> str:
    """How many outcomes are in each state that is there: `38 done, 2 failed`."""
    found = [outcome.state for outcome in outcomes]
    return ", ".join(f"{found.count(state)} {word}" for state, word in WORDS.items() if state in found)


def headline(outcomes: Sequence[Outcome]) -> str:
    """`40 pictures: 38 done, 2 failed`."""
    pictures = f"{len(outcomes)} picture{'s' * (len(outcomes) != 1)}"
    return f"{pictures}: {states(outcomes)}" if outcomes else pictures


def summary(outcomes: Sequence[Outcome], seconds: float) -> str:
    """`40 pictures: 38 done, 2 failed in 12.5 s`."""
    return f"{headline(outcomes)} in {seconds:.1f} s"
