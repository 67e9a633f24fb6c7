from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdcli import store
from sdcli.batch.verify import Verified
from sdcli.batch.verify import verify as verify_pictures
from sdcli.commands._enlarge import enlarger
from sdcli.commands._generate import check_writable, show_progress
from sdcli.commands._streams import print_note, print_result, standard_input
from sdcli.commands._types import PATH, ModelName
from sdcli.errors import UsageError

if TYPE_CHECKING:
    from sdcli.result import Watcher

MOST_ROWS = 50
"""Pictures on a sheet of differences; the first that differ."""


@click.command()
@click.argument("pictures", type=PATH, nargs=-1, required=True)
@click.option("-m", "--model", type=ModelName(), default=None, help="The model, if it is not where it was.")
@click.option("--device", default=None, help="Draw on this device instead of the recorded one.")
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    default=None,
    help="Draw with so many threads instead of the recorded number.",
)
@click.option("--strict", is_flag=True, help="Let only identical files pass.")
@click.option(
    "--sheet",
    type=PATH,
    default=None,
    help="Save a PNG of the pictures that do not pass: before, now, and the difference.",
)
@click.option(
    "--allow-slow",
    is_flag=True,
    help="Make a picture again even if it takes hours, or more memory than is free.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per picture.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress on standard error.")
def verify(
    pictures: tuple[str, ...],
    strict: bool,
    sheet: str | None,
    allow_slow: bool,
    as_json: bool,
    quiet: bool,
    **values: Any,
) -> None:
    """Make PICTURES again from their own metadata, and tell whether they are the same.

    They are made with the recorded threads, device and number format. A picture passes as identical, as same pixels, or
    as rounding: by the same arithmetic on another kind of CPU or GPU, torch or number of threads, with no value off by
    more than 2 of 255 and at 65 dB or more. Else it is different, and what differs of how it was made is named.

    PICTURES - reads one from standard input. The exit code is 1 if any differs or cannot be made again.
    """
    if sheet is not None:
        _check_sheet(sheet)
    given = {name: value for name, value in values.items() if value is not None}
    stdin = standard_input("the picture") if "-" in pictures else None
    failed: list[Verified] = []
    count = 0
    watch = None if quiet else _progress
    for verified in verify_pictures(pictures, given, enlarger, watch, stdin, allow_slow):
        if verified.error is not None and len(pictures) == 1:
            raise verified.error
        print_result(json.dumps(_report(verified, strict)) if as_json else _line(verified))
        if not verified.passes(strict):
            count += 1
            failed += [verified] if sheet is not None and verified.now and len(failed) < MOST_ROWS else []
    if sheet is not None and failed:
        _save_sheet(sheet, failed)
    if count:
        print_note(f"pictures that do not pass: {count} of {len(pictures)}")
        raise click.exceptions.Exit(1)


def _progress(path: str) -> Watcher:
    return lambda steps: show_progress(steps, path)


def _line(verified: Verified) -> str:
    """`rounding    out.png  max 1, 74.8 dB, 0.64 % of the pixels: threads 1 -> 2`."""
    found = verified.comparison
    text = f"{found.verdict.replace('_', ' '):<11} {verified.path}  {found.message}".rstrip()
    return "".join(
        c if c.isprintable() else repr(c)[1:-1] for c in text
    )  # a file's own facts may hold anything


def _report(verified: Verified, strict: bool) -> dict[str, Any]:
    found = verified.comparison
    return {
        "path": verified.path,
        "verdict": found.verdict,
        "passes": verified.passes(strict),
        "max": found.max if found.is_measured else None,
        "changed": found.changed if found.is_measured else None,
        "psnr": found.psnr if found.is_measured and math.isfinite(found.psnr) else None,
        "reasons": {key: list(values) for key, values in found.reasons.items()},
        "message": found.message,
        **({"error": verified.error.kind} if verified.error is not None else {}),
    }


# --- the sheet of differences


def _check_sheet(sheet: str) -> None:
    """Raise UsageError for a name that is no PNG's, WriteError for a folder that cannot be written in."""
    if Path(sheet).suffix.lower() != ".png":
        raise UsageError(f"--sheet {sheet}: is written as .png; name it {Path(sheet).stem or 'sheet'}.png")
    check_writable(Path(sheet).parent)


def _save_sheet(sheet: str, failed: list[Verified]) -> None:
    from sdcli.batch.compare import pixels_of
    from sdcli.batch.reports.difference_sheet import difference_sheet
    from sdcli.request.png import encode_png

    rows = [
        (_line(each), pixels_of(each.before, each.path).image, pixels_of(each.now, each.path).image)
        for each in failed
    ]
    path = store.save(encode_png(difference_sheet(rows)), Path(sheet), "choose another name with --sheet")
    print_note(f"the differences are in {path}")
