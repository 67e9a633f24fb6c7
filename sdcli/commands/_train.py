"""Train: a training with its progress on standard error and its result on standard output."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sdcli.commands._interrupted import Interrupted
from sdcli.commands._streams import print_note, print_result
from sdcli.estimate import duration
from sdcli.models.cache import ModelCache
from sdcli.train.plan import Plan, make_plan
from sdcli.train.settings import Training

if TYPE_CHECKING:
    from sdcli.train.run import Progress

INTERVAL = 5.0
"""Seconds between lines of progress where standard error is no terminal; more in a long training."""
BARS = ("pictures", "training")
"""What there is a bar for."""
LINES = 30
"""The next line waits for at least the time that has passed, divided by this."""


def train_and_report(settings: Training, as_json: bool, quiet: bool) -> None:
    """Train, show how far it is, and print the file; raises SdError before torch is imported as far as it can."""
    models = ModelCache()
    plan = make_plan(settings, models)

    from sdcli.train.run import run

    begun, loss, path = time.monotonic(), None, ""
    steps = run(plan, models)
    try:
        for progress in steps if quiet else shown(steps, plan):
            loss = loss if progress.loss is None else progress.loss
            path = str(progress.path or path)
    except KeyboardInterrupt:
        steps.close()  # which saves where the training stands
        raise Interrupted("interrupted; the same command goes on from there") from None
    report = {
        "path": path,
        "folder": str(settings.folder),
        "steps": settings.steps,
        "pictures": len(plan.examples),
        "loss": loss,
        "seconds": round(time.monotonic() - begun, 3),
    }
    print_result(json.dumps(report) if as_json else path, saved=path)


def shown(steps: Iterator[Progress], plan: Plan) -> Iterator[Progress]:
    """Pass the progress on, and show it: a bar on a terminal, else a line at times."""
    return _bars(steps, plan) if sys.stderr.isatty() else _lines(steps, plan)


def _bars(steps: Iterator[Progress], plan: Plan) -> Iterator[Progress]:
    from tqdm import tqdm

    initial = {"training": plan.done}
    bar: tqdm[None] | None = None
    doing = ""
    try:
        for progress in steps:
            if progress.doing not in BARS:
                yield progress
                continue
            if progress.doing != doing:
                if bar is not None:
                    bar.close()
                doing = progress.doing
                bar = tqdm(
                    desc=doing, total=progress.total, initial=initial.get(doing, 0), file=sys.stderr, leave=False,
                    dynamic_ncols=True,
                )  # fmt: skip
            assert bar is not None
            if progress.loss is not None:
                bar.set_postfix(loss=f"{progress.loss:.4f}", refresh=False)
            bar.update()
            yield progress
    finally:
        if bar is not None:
            bar.close()


def _lines(steps: Iterator[Progress], plan: Plan) -> Iterator[Progress]:
    begun = last = time.monotonic()
    first = plan.done
    for progress in steps:
        if progress.loss is None:  # pictures were encoded or drawn: the time of the steps counts from here
            begun, first = time.monotonic(), first if progress.doing == "pictures" else progress.number
        elif time.monotonic() - last >= max(INTERVAL, (last - begun) / LINES):
            last = time.monotonic()
            each = (last - begun) / (progress.number - first)
            left = duration(each * (progress.total - progress.number))
            print_note(
                f"step {progress.number} of {progress.total}, loss {progress.loss:.4f}, "
                f"{each:.2g} s a step, {left} left"
            )
        yield progress
