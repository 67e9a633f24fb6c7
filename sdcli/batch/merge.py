"""Merge: the pictures that shards drew, in other folders or on other machines, as the one set of the whole batch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from sdcli import store
from sdcli.batch import journal as journals
from sdcli.batch.journal import Entry, Journal
from sdcli.batch.run import Record, Records, Tell, sha256_of
from sdcli.errors import UsageError, WriteError


def merge(records: Records, folders: Sequence[Path], journal: Journal, tell: Tell) -> None:
    """Copy the picture of each job that is not done from the folder of the shard that drew it.

    A job is found by its key, for machines may differ. A copy is byte for byte the shard's file, or is not made.
    Raises UsageError for a folder without a journal.
    """
    found = _pictures(folders)
    root = records.plan.destination.root
    for planned in records.plan.jobs:
        record = records.by_number[planned.number]
        if record.state == "skipped" or planned.key not in found:
            continue
        folder, entry = found[planned.key]
        try:
            data = (folder / entry.path).read_bytes()
        except OSError as error:
            raise WriteError(f"{folder / entry.path}: cannot be read: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            continue  # altered since it was drawn
        path = store.save(data, root / planned.path).relative_to(root).as_posix()
        journal.add(Entry("done", planned.key, planned.identity, path, entry.sha256, entry.more))
        records.by_number[planned.number] = Record("done", path, entry.sha256)
        tell("job_done", planned, path=root / path, seconds={}, sha256=entry.sha256)


def _pictures(folders: Sequence[Path]) -> dict[str, tuple[Path, Entry]]:
    """Key of a job -> the folder and the entry of its picture, of all journals in some folders."""
    found: dict[str, tuple[Path, Entry]] = {}
    for folder in folders:
        paths = sorted(folder.glob("*.journal*.jsonl"))
        if not paths:
            raise UsageError(
                f"--merge {folder}: holds no journal of a batch; name the folder that a shard drew into"
            )
        for path in paths:
            for entry in journals.read(path):
                if entry.state == "done" and sha256_of(folder / entry.path) == entry.sha256:
                    found[entry.key] = (folder, entry)
    return found
