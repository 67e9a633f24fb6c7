"""Index: a batch as a table for spreadsheets and scripts, a row a job."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from sdcli.batch.outcome import Outcome
from sdcli.batch.reports.described import (
    SETTINGS,
    axes_of,
    name_of,
    reason_of,
    request_of,
    seconds_of,
    value_text,
)

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""How a cell begins that a spreadsheet would run as a formula."""


def index_csv(outcomes: Sequence[Outcome]) -> str:
    """The table with its header, as RFC 4180 wants it: lines end in CR LF.

    Its columns are name, state, path, each axis that is no setting, the settings, seconds, sha256 and error. A text
    that a spreadsheet would run as a formula gets an apostrophe before it.
    """
    axes = [axis for axis in axes_of(outcomes) if axis not in SETTINGS]
    columns = ["name", "state", "path", *axes, *SETTINGS, "seconds", "sha256", "error"]
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\r\n")
    rows.writerow(map(_cell, columns))
    for outcome in outcomes:
        values = _values(outcome)
        rows.writerow(
            [_cell(outcome.job.axes.get(name, "") if name in axes else values[name]) for name in columns]
        )
    return table.getvalue()


def _values(outcome: Outcome) -> Mapping[str, Any]:
    request = request_of(outcome)
    return {
        "name": name_of(outcome),
        "state": outcome.state,
        "path": "" if outcome.path is None else str(outcome.path),
        **{name: getattr(request, name) for name in SETTINGS},
        "seconds": seconds_of(outcome),
        "sha256": outcome.sha256,
        "error": "" if outcome.is_good else reason_of(outcome),
    }


def _cell(value: Any) -> str:
    """A value as a cell: a number as it is, a text so that it stays a text."""
    text = value_text(value)
    return f"'{text}" if isinstance(value, str) and text.lstrip(" ").startswith(FORMULA) else text
