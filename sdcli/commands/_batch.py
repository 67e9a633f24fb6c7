"""Batch: what `sd batch` and --sweep share, from checked jobs to saved pictures, reports and one exit code."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcli import registry
from sdcli.batch.plan import Destination, Plan, make_plan
from sdcli.batch.run import Records, Run, journal_path, resume
from sdcli.checkpoints import hub
from sdcli.commands._batch_options import BatchOptions
from sdcli.commands._batch_output import SCHEMA, BatchOutput
from sdcli.commands._output import suffixes_of
from sdcli.commands._streams import print_note, print_result
from sdcli.errors import SdError, UsageError, naming_options
from sdcli.estimate import duration, remember
from sdcli.request.jobfile.batch_job import BatchJob, JobFileError

if TYPE_CHECKING:
    from sdcli.batch.executor import Executor

MAX_FAULTS = 100  # faults of job files that are listed
MAX_NOTES = 10  # notes on the jobs of a plan that are printed


def run_batch(
    read_jobs: Callable[[], Sequence[BatchJob]], title: str, options: BatchOptions, is_typed: bool = False
) -> None:
    """Draw the jobs that are not done yet, and report. Raises SdError if any of them failed.

    `title` names the journal. Errors name options if the jobs are typed, and the keys of job files else. Everything is checked before torch is imported: all faults of the jobs are listed, and
    the error then tells their number.
    """
    _check(options)
    try:
        with hub.progress(sys.stderr.isatty() and not options.quiet), naming_options(is_typed):
            plan = make_plan(read_jobs(), _destination(options), options.allow_slow)
    except JobFileError as error:
        raise _listed(error, options) from None
    whole = plan
    if options.shard:
        plan = plan.shard(*options.shard)
    path = journal_path(plan.destination.root, title, options.shard)
    records = Records(plan)
    resume(records, path, options.retry_failed)
    if options.plan:
        _print_plan(whole, plan, records, options)
        return
    _print_notes(plan)
    _draw(plan, records, path, options)
    _fail_if_any_failed(records)


# --- before it


def _listed(error: JobFileError, options: BatchOptions) -> SdError:
    """The error after all its faults were printed; the error itself if there is one fault."""
    if len(error.faults) == 1:
        return UsageError(str(error.faults[0]))
    for fault in error.faults[:MAX_FAULTS]:
        print_note(str(fault))
        if options.as_json:
            event = {"type": "fault", "source": str(fault.source), "message": fault.message}
            print_result(json.dumps({"schema": SCHEMA, **event}))
    more = len(error.faults) - MAX_FAULTS
    return UsageError(
        f"{len(error.faults)} faults"
        + (f", {more} of them not shown" if more > 0 else "")
        + "; nothing was drawn"
    )


def _check(options: BatchOptions) -> None:
    name = options.on.partition(":")[0]
    if name not in registry.names("executors"):
        raise UsageError(f"--on {options.on}: {registry.nearest(name, registry.names('executors'))}")


def _destination(options: BatchOptions) -> Destination:
    root, template = _root_and_template(options.out)
    return Destination(root, template, suffixes_of(options.format), options.quality, options.metadata)


def _root_and_template(out: str | None) -> tuple[Path, str | None]:
    """The folder of a batch, and the template below it, of what -o says: `out/{cfg}/{seed}.png` or `out`."""
    if not out:
        return Path(), None
    folders, template = Path(out), None
    first = next((i for i, part in enumerate(folders.parts) if "{" in part), None)
    if os.path.isdir(out) or (first is None and not folders.suffix) or out.endswith(os.sep):
        return folders, None
    first = len(folders.parts) - 1 if first is None else first
    template = "/".join(folders.parts[first:])
    return Path(*folders.parts[:first]), template


def _print_notes(plan: Plan) -> None:
    notes = list(dict.fromkeys(note for planned in plan.jobs for note in planned.notes))
    for note in notes[:MAX_NOTES]:
        print_note(note)
    if len(notes) > MAX_NOTES:
        print_note(f"and {len(notes) - MAX_NOTES} more notes like these")


def _print_plan(whole: Plan, plan: Plan, records: Records, options: BatchOptions) -> None:
    """Print what the batch would draw, and what it would take: lines, or one JSON object."""
    left = [planned for planned in plan.jobs if records.by_number[planned.number].state == "not_run"]
    expected = [planned.expected for planned in left if planned.expected is not None]
    facts: dict[str, Any] = {
        "jobs": len(plan.jobs),
        "done": records.count("skipped"),
        "failed_before": records.count("failed"),
        "to_draw": len(left),
        "models": list(dict.fromkeys(planned.found.name for planned in left)),
        "prompts": len({(planned.request.prompt, planned.request.negative) for planned in left}),
        "seconds": round(sum(each.seconds for each in expected)),
        "measured": all(each.measured for each in expected),
        "bytes": max((each.bytes for each in expected), default=0),
        "folder": str(plan.destination.root),
    }
    if options.shard:
        facts = {"of": len(whole.jobs), "shard": "{}/{}".format(*options.shard), **facts}
    if options.as_json:
        listed = [
            {"name": each.job.name, "id": each.id, "path": str(each.path), "seed": each.request.seed}
            for each in left
        ]
        print_result(json.dumps({"plan": {**facts, "to_draw_jobs": listed}}))
        return
    shard = f" of {len(whole.jobs)} (shard {facts['shard']})" if options.shard else ""
    print_result(
        f"{facts['jobs']} jobs{shard}: {facts['to_draw']} to draw, {facts['done']} done, "
        f"{facts['failed_before']} failed before"
    )
    print_result(f"models: {', '.join(facts['models']) or 'none'}; {facts['prompts']} different prompts")
    if expected:
        basis = (
            "by the steps measured here" if facts["measured"] else "guessed: no step was measured here yet"
        )
        print_result(
            f"about {duration(facts['seconds'])}, {facts['bytes'] / 1e9:.1f} GB of memory ({basis}); "
            f"to {plan.destination.root}"
        )
    for planned in left[:3]:
        print_result(f"  {planned.path}")
    if len(left) > 3:
        print_result(f"  … and {len(left) - 3} more")


# --- the batch itself


def _draw(plan: Plan, records: Records, path: Path, options: BatchOptions) -> None:
    from sdcli.batch.journal import Journal

    output = BatchOutput(options.as_json, options.quiet)
    with Journal(path) as journal:
        output.start(
            len(plan.jobs), records.count("not_run"), folder=str(plan.destination.root), journal=str(path)
        )
        try:
            _tell_earlier(plan, records, output)
            if options.merge:
                from sdcli.batch.merge import merge

                merge(records, [Path(folder) for folder in options.merge], journal, output.tell)
            elif records.count("not_run"):
                run = Run(records, _executor(options.on, output), journal, output.tell, options.fail_fast)
                run.run()
                if run.last is not None:
                    planned, seconds = run.last
                    remember(
                        planned.found, planned.request, seconds.get("steps", 0) + seconds.get("decode", 0)
                    )
        finally:
            output.end(**{state: records.count(state) for state in ("done", "skipped", "failed", "not_run")})


def _tell_earlier(plan: Plan, records: Records, output: BatchOutput) -> None:
    """Tell of the jobs that an earlier run ended."""
    for planned in plan.jobs:
        record = records.by_number[planned.number]
        if record.state == "skipped":
            output.tell(
                "job_skipped", planned, path=plan.destination.root / record.path, sha256=record.sha256
            )
        elif record.failure is not None:
            output.tell("job_failed_before", planned, failure=record.failure)


def _executor(on: str, output: BatchOutput) -> Executor:
    name, _, option = on.partition(":")
    if name == "local":
        from sdcli.batch.executors.local import local

        return local(option, output.watch)
    return registry.find("executors", name)(option)


def _fail_if_any_failed(records: Records) -> None:
    """Raise SdError, whose exit code is 1, if the batch is not whole."""
    failed, missing = records.count("failed"), records.count("not_run")
    if failed:
        raise SdError(f"{failed} of {len(records.by_number)} jobs failed; --retry-failed draws them again")
    if missing:
        raise SdError(
            f"{missing} of {len(records.by_number)} pictures are missing; draw them, then merge again"
        )
