"""Batch: what `sd batch` and --sweep share, from checked jobs to saved pictures, reports and one exit code."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from sdcli import registry
from sdcli.batch.journal import Journal, unreadable_lines
from sdcli.batch.merge import merge
from sdcli.batch.outcome import EVENT_SCHEMA, GOOD, Outcome, State
from sdcli.batch.plan import Destination, Plan, Planned
from sdcli.batch.planner import make_plan
from sdcli.batch.run import Records, Run, journal_path, resume
from sdcli.checkpoints import hub
from sdcli.commands._batch_options import BatchOptions
from sdcli.commands._batch_output import BatchOutput
from sdcli.commands._batch_reports import check_reports, wants_outcomes, write_difference_sheet, write_reports
from sdcli.commands._output import suffixes_of
from sdcli.commands._streams import print_note, print_result
from sdcli.errors import SdError, UsageError, naming_options
from sdcli.estimate import duration, remember
from sdcli.request.jobfile.batch_job import BatchJob, Fault, JobFileError

if TYPE_CHECKING:
    from sdcli.batch.executor import Executor
    from sdcli.commands._terminal_pictures import Screen

MAX_FAULTS = 100  # faults of job files that are listed
MAX_NOTES = 10  # notes on the jobs of a plan that are printed


class NotWhole(SdError):
    """A batch of which not every job is done as it should be; the events of --json tell which."""

    is_answered = True


def run_batch(
    read_jobs: Callable[[], Sequence[BatchJob]], title: str, options: BatchOptions, is_typed: bool = False
) -> None:
    """Draw the jobs that are not done yet, and report. Raises SdError if any of them failed.

    `title` names the journal. Errors name options if the jobs are typed, and the keys of job files else. Everything is
    checked before torch is imported: all faults of the jobs are listed, and the error then tells their number.
    """
    _check(options)
    try:
        with hub.progress(sys.stderr.isatty() and not options.quiet), naming_options(is_typed):
            plan = _plan(read_jobs, _destination(options), options.allow_slow)
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
    _draw(whole, plan, records, path, options)


# --- before it


def _plan(read_jobs: Callable[[], Sequence[BatchJob]], destination: Destination, allow_slow: bool) -> Plan:
    """The plan of the jobs; raises JobFileError with the faults of their files and those of the plan."""
    known: Sequence[Fault] = ()
    try:
        jobs = read_jobs()
    except JobFileError as error:
        jobs, known = error.jobs, error.faults
    return make_plan(jobs, destination, allow_slow, known)


def _listed(error: JobFileError, options: BatchOptions) -> SdError:
    """The error after all its faults were printed, as events too; the error itself if there is one fault."""
    for fault in error.faults if options.as_json else ():
        event = {"type": "fault", "source": str(fault.source), "message": fault.message}
        print_result(json.dumps({"schema": EVENT_SCHEMA, **event}))
    if len(error.faults) == 1:
        return UsageError(str(error.faults[0]))
    for fault in error.faults[:MAX_FAULTS]:
        print_note(str(fault))
    more = len(error.faults) - MAX_FAULTS
    return UsageError(
        f"{len(error.faults)} faults"
        + (f", {more} of them not shown" if more > 0 else "")
        + "; nothing was drawn"
    )


def _check(options: BatchOptions) -> None:
    """Raise SdError for options that cannot be meant."""
    check_reports(options)
    if options.check is not None:
        from sdcli.batch.goldens import Goldens

        Goldens.open(Path(options.check), options.update)
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
        "longest_prompt_tokens": _longest(left),
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
        f"{_counted(facts['jobs'], 'job')}{shard}: {facts['to_draw']} to draw, {facts['done']} done, "
        f"{facts['failed_before']} failed before"
    )
    print_result(
        f"models: {', '.join(facts['models']) or 'none'}; "
        f"{_counted(facts['prompts'], 'distinct prompt')}, the longest of "
        f"{_counted(facts['longest_prompt_tokens'], 'token')}"
    )
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


def _counted(count: int, word: str) -> str:
    """`1 job`, `2 jobs`."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def _longest(jobs: Sequence[Planned]) -> int:
    """Tokens of the longest prompt: of the texts with most characters, for all of them would take long to count."""
    texts = {planned.request.prompt: planned.found for planned in jobs}
    longest = sorted(texts, key=len, reverse=True)[:20]
    counts = (max(len(each.ids(text)) for each in texts[text].tokenizers.values()) for text in longest)
    return max(counts, default=0)


# --- the batch itself


def _draw(whole: Plan, plan: Plan, records: Records, path: Path, options: BatchOptions) -> None:
    """Draw what is missing, compare and report. Raises SdError, whose exit code is 1, if the batch is not whole."""
    output = BatchOutput(options.as_json, options.quiet, _screen(options))
    executor = _executor(options.on, output)
    if lines := unreadable_lines(path):
        print_note(f"{path}: {lines} of its lines cannot be read; what only they told of is drawn again")
    begun = time.monotonic()
    outcomes: tuple[Outcome, ...] = ()
    with Journal(path) as journal:
        folder = str(plan.destination.root)
        output.start(len(plan.jobs), records.count("not_run"), folder=folder, journal=str(path))
        try:
            _tell_earlier(plan, records, output)
            _finish(records, journal, executor, options, output)
            if wants_outcomes(options):
                outcomes = _checked(records.outcomes(path), plan, whole, options, journal)
                title = path.name.partition(".journal")[0]
                write_reports(outcomes, journal, options, title, time.monotonic() - begun)
        finally:
            states = [outcome.state for outcome in outcomes] or [
                record.state for record in records.by_number.values()
            ]
            output.end(**{state: states.count(state) for state in get_args(State)})
    if not all(state in GOOD for state in states):
        raise NotWhole(_what_is_wrong(states))


def _screen(options: BatchOptions) -> Screen | None:
    """The terminal of --show."""
    if not options.show:
        return None
    from sdcli.commands._terminal_pictures import find_screen

    return find_screen()


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


def _finish(
    records: Records, journal: Journal, executor: Executor, options: BatchOptions, output: BatchOutput
) -> None:
    """Draw, or merge, what is missing."""
    if options.merge:
        merge(records, [Path(folder) for folder in options.merge], journal, output.tell)
    elif records.count("not_run"):
        run = Run(records, executor, journal, output.tell, options.fail_fast)
        run.run()
        if run.last is not None:
            planned, seconds = run.last
            remember(planned.found, planned.request, seconds.get("steps", 0) + seconds.get("decode", 0))


def _executor(on: str, output: BatchOutput) -> Executor:
    name, _, option = on.partition(":")
    if name == "local":
        from sdcli.batch.executors.local import local

        return local(option, output.watch)
    return registry.find("executors", name)(option)


def _checked(
    outcomes: tuple[Outcome, ...], plan: Plan, whole: Plan, options: BatchOptions, journal: Journal
) -> tuple[Outcome, ...]:
    """The outcomes, compared with the goldens of --check; what differs is told, and shown on a sheet."""
    if options.check is None:
        return outcomes

    from sdcli.batch.goldens import Goldens
    from sdcli.commands._batch_check import check_goldens, difference_rows, tell_differences

    goldens = Goldens.open(Path(options.check), options.update)
    outcomes = check_goldens(outcomes, plan, whole, goldens, options.update)
    tell_differences(outcomes)
    if rows := difference_rows(outcomes, plan, goldens):
        write_difference_sheet(rows, journal)
    return outcomes


def _what_is_wrong(states: Sequence[State]) -> str:
    """`2 of 40 jobs failed; …`"""
    steps = {
        "failed": "jobs failed; --retry-failed draws them again",
        "not_run": "pictures are missing; draw them, and give the same command again",
        "changed": "pictures are not as their goldens",
        "new": "pictures have no golden; --update makes them one",
        "gone": "goldens have no job",
    }
    told = [
        f"{states.count(state)} of {len(states)} {text}" for state, text in steps.items() if state in states
    ]
    return "; ".join(told)
