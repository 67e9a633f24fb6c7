"""Batch check: the pictures of a batch are compared with their goldens, or become them."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sdcli.batch.goldens import Goldens, PictureGoldens, facts_of
from sdcli.batch.outcome import Outcome
from sdcli.batch.plan import Plan
from sdcli.commands._streams import print_note
from sdcli.request.jobfile.batch_job import BatchJob, Source
from sdcli.request.request import Request

if TYPE_CHECKING:
    from PIL.Image import Image


def check_goldens(
    outcomes: Sequence[Outcome], plan: Plan, whole: Plan, goldens: Goldens, update: bool
) -> tuple[Outcome, ...]:
    """The outcomes with what became of their goldens; one more for each golden that no job of the whole batch is for.

    With `update`, the goldens become the pictures of the batch, and nothing differs any more.
    """
    names = [planned.path.as_posix() for planned in plan.jobs]
    checked = [
        _checked(outcome, name, goldens, update) for outcome, name in zip(outcomes, names, strict=True)
    ]
    gone = goldens.gone([planned.path.as_posix() for planned in whole.jobs])
    if update:
        for name in gone:
            print_note(f"{name}: no job makes it any more; its golden is removed")
        goldens.remove(gone)
        goldens.finish()
        return tuple(checked)
    return (*checked, *(_gone(name) for name in gone))


def difference_rows(
    outcomes: Sequence[Outcome], plan: Plan, goldens: Goldens
) -> list[tuple[str, Image, Image]]:
    """(caption, golden, picture) of each outcome that changed, for a sheet; none if goldens are only hashes."""
    from PIL import Image

    rows = []
    for planned, outcome in zip(plan.jobs, outcomes, strict=False):
        if outcome.state != "changed" or outcome.path is None or not isinstance(goldens, PictureGoldens):
            continue
        golden = goldens.read(planned.path.as_posix())
        if golden is not None:
            caption = f"{planned.path}: {outcome.comparison.message if outcome.comparison else ''}"
            before = Image.open(io.BytesIO(golden)).convert("RGB")
            rows.append((caption, before, Image.open(outcome.path).convert("RGB")))
    return rows


def tell_differences(outcomes: Sequence[Outcome]) -> None:
    """A note for each outcome that is not as its golden."""
    for outcome in outcomes:
        name = outcome.path or outcome.job.name
        if outcome.state == "changed" and outcome.comparison is not None:
            print_note(f"{name}: changed: {outcome.comparison.message}")
        elif outcome.state == "new":
            print_note(f"{name}: new: there is no golden of it; --update makes it one")
        elif outcome.state == "gone":
            print_note(f"{name}: gone: no job makes it any more; --update removes its golden")


def _checked(outcome: Outcome, name: str, goldens: Goldens, update: bool) -> Outcome:
    if not outcome.is_good or outcome.path is None:
        return outcome
    data = outcome.path.read_bytes()
    found = goldens.check(outcome, data, name)
    if not update:
        return found
    if found.state in ("new", "changed") or (found.comparison and found.comparison.verdict != "identical"):
        goldens.update(name, data, facts_of(outcome))
    return dataclasses.replace(found, state=outcome.state)


def _gone(name: str) -> Outcome:
    return Outcome(BatchJob(Request(), name=name, source=Source(name)), "gone", Path(name))
