"""Rows: the jobs of a CSV file, whose first line names the fields; an empty cell says nothing."""

from __future__ import annotations

import csv
from collections.abc import Sequence

from sdcli.errors import UsageError
from sdcli.request.jobfile.batch_job import Source
from sdcli.request.jobfile.document import Document
from sdcli.request.jobfile.entry import Entry
from sdcli.request.jobfile.keys import our_key
from sdcli.request.jobfile.nodes import Faults, Node


def is_header(line: str) -> bool:
    """True if a line names at least two fields, and nothing else."""
    try:
        cells = next(csv.reader([line], delimiter=_delimiter(line), strict=True), [])
        return len(cells) > 1 and all(our_key(cell) for cell in cells)
    except (csv.Error, UsageError):
        return False


def read_rows(text: str, shared: Document, faults: Faults) -> list[Entry]:
    """The entries of a CSV file. Cells are separated by commas, or by semicolons or tabs if the first line is."""
    lines = text.split("\n")
    reader = csv.reader((f"{line}\n" for line in lines), delimiter=_delimiter(lines[0]), strict=True)
    entries: list[Entry] = []
    before = faults.number
    file, header = shared.place.file, None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            faults.add(Source(file, line), f"is no CSV: {error}; correct the quotes")
            return entries
        if cells is None:
            break
        if header is None:
            header = _header(cells, Source(file, line), faults)
            if not header:
                return entries
        elif any(cell.strip() for cell in cells):
            entry = _entry(header, cells, line, len(entries) + 1, shared, faults)
            entries += [entry] if entry else []
    if not entries and faults.number == before:
        faults.add(
            Source(file), "has no row behind the first line, which names the fields; add one for each job"
        )
    return entries


def _header(cells: Sequence[str], source: Source, faults: Faults) -> list[str]:
    """The names of the columns; none if one is wrong."""
    before = faults.number
    names = [cell.strip() for cell in cells]
    for name in names:
        try:
            our_key(name)
        except UsageError as error:
            faults.add(source, f"the column {name!r}: {error}")
        if names.count(name) > 1:
            faults.add(source, f"the column {name!r} is here twice; keep one")
    return names if faults.number == before else []


def _entry(
    header: Sequence[str], cells: Sequence[str], line: int, number: int, shared: Document, faults: Faults
) -> Entry | None:
    if len(cells) > len(header):
        message = f"has {len(cells)} cells, and the first line names {len(header)}; put commas in quotes"
        faults.add(Source(shared.place.file, line), message)
        return None
    values = {name: Node(cell, line) for name, cell in zip(header, cells, strict=False) if cell.strip()}
    return shared.entry(Node({**values}, line), number, faults)


def _delimiter(line: str) -> str:
    return "," if "," in line else next((sign for sign in ";\t" if sign in line), ",")
