"""Goldens: the pictures, or the hashes of pictures, that a batch is compared with."""

from __future__ import annotations

import dataclasses
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdcli import store
from sdcli.batch.compare import compare, compare_hashes, pixels_of
from sdcli.batch.comparison import Comparison
from sdcli.batch.outcome import Outcome
from sdcli.batch.reasons import Facts
from sdcli.errors import ImageError, SdError, UsageError, WriteError
from sdcli.request.encode import SUFFIXES
from sdcli.request.images import read_file
from sdcli.request.jobfile.batch_job import Tolerance
from sdcli.request.png_metadata import read_png_metadata

ADVICE = "choose another place for the goldens with --check"
COMPARED = ("done", "skipped")
"""States of an outcome that has a picture."""


class Goldens(ABC):
    """What the pictures of a batch should be, by the names of their files below the batch's folder, with slashes."""

    @staticmethod
    def open(path: Path, update: bool = False) -> Goldens:
        """The goldens in a folder of pictures, or in a .jsonl file of hashes.

        Raises UsageError if there are none, unless they are to be updated, and for a file that cannot be read.
        """
        if not path.exists() and not update:
            raise UsageError(
                f"--check {path}: there are no goldens; --update makes them of this batch's pictures"
            )
        if path.suffix.lower() == ".jsonl" and not path.is_dir():
            return HashGoldens(path, _read_lines(path) if path.exists() else {})
        if path.is_file():
            raise UsageError(f"--check {path}: goldens are a folder of pictures or a .jsonl file of hashes")
        return PictureGoldens(path)

    @abstractmethod
    def names(self) -> list[str]:
        """The names of all goldens, in order."""

    @abstractmethod
    def compare(self, name: str, data: bytes, facts: Facts, tolerance: Tolerance) -> Comparison | None:
        """How a picture's file differs from its golden; None if it has none. Raises ImageError for a damaged golden."""

    @abstractmethod
    def update(self, name: str, data: bytes, facts: Facts) -> None:
        """Make this picture's file the golden of that name. Raises WriteError."""

    @abstractmethod
    def remove(self, names: Collection[str]) -> None:
        """Remove goldens that no job is for. Raises WriteError."""

    @abstractmethod
    def finish(self) -> None:
        """Write what was updated and is not written yet. Raises WriteError."""

    def check(self, outcome: Outcome, data: bytes, name: str) -> Outcome:
        """The outcome of a job, with its picture's file compared with the golden of this name.

        Its state becomes new if there is none, and changed if they are not the same picture within the job's tolerance.
        An outcome without a picture stays as it is.
        """
        if outcome.state not in COMPARED:
            return outcome
        try:
            found = self.compare(name, data, facts_of(outcome), outcome.job.tolerance)
        except SdError as error:
            found = Comparison("failed", message=f"its golden cannot be used: {error}", is_measured=False)
        if found is None:
            return dataclasses.replace(outcome, state="new")
        return dataclasses.replace(
            outcome, state=outcome.state if found.passes else "changed", comparison=found
        )

    def gone(self, names: Collection[str]) -> list[str]:
        """The names of goldens that are not among the names of the batch's pictures."""
        return sorted(set(self.names()) - set(names))


def facts_of(outcome: Outcome) -> Facts:
    """The facts of an outcome and its request, as a picture's metadata have them."""
    request = {} if outcome.request is None else {"request": outcome.request.as_record()}
    return {**outcome.facts, **request}


@dataclass
class PictureGoldens(Goldens):
    """Goldens that are pictures in a folder, in folders below it too."""

    folder: Path

    def names(self) -> list[str]:
        """The names of all pictures."""
        found = (
            path for path in self.folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()
        )
        return sorted(path.relative_to(self.folder).as_posix() for path in found)

    def compare(self, name: str, data: bytes, facts: Facts, tolerance: Tolerance) -> Comparison | None:
        """As Goldens; the figures are told, for both pictures are there."""
        golden = self.read(name)
        return None if golden is None else compare(golden, data, _facts_in(golden, name), facts, tolerance)

    def read(self, name: str) -> bytes | None:
        """The file of a golden, for a sheet of differences; None if there is none. Raises ImageError."""
        path = self._path(name)
        return read_file(path, str(path))[0] if path.is_file() else None

    def update(self, name: str, data: bytes, facts: Facts) -> None:
        """As Goldens; the file is replaced at once."""
        store.replace(data, self._path(name), ADVICE)

    def remove(self, names: Collection[str]) -> None:
        """As Goldens; the files are deleted."""
        for name in names:
            path = self._path(name)
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise WriteError(
                    f"{path}: cannot be removed: {error.strerror}; check its permissions"
                ) from error

    def finish(self) -> None:
        """As Goldens; all is written already."""

    def _path(self, name: str) -> Path:
        """The file of a golden; raises UsageError for a name that leads out of the folder."""
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise UsageError(
                f"{name}: is outside the batch's folder, so it has no golden; give it a name inside"
            )
        return self.folder / name


@dataclass(frozen=True)
class Golden:
    """A line of a file of hashes: what a picture's pixels are, and how it was made."""

    sha256: str  # of all values of all pixels, row by row, in hex
    shape: str  # 512x768 RGB
    facts: Facts = field(default_factory=dict)

    def as_line(self, name: str) -> str:
        """The line of JSON, without its end."""
        line = {"name": name, "sha256": self.sha256, "shape": self.shape, "facts": self.facts}
        return json.dumps(line, sort_keys=True, ensure_ascii=True)


@dataclass
class HashGoldens(Goldens):
    """Goldens that are hashes in a .jsonl file: equal or changed, and nothing in between."""

    path: Path
    goldens: dict[str, Golden] = field(default_factory=dict)

    def names(self) -> list[str]:
        """The names of all lines."""
        return sorted(self.goldens)

    def compare(self, name: str, data: bytes, facts: Facts, tolerance: Tolerance) -> Comparison | None:
        """As Goldens; no figures are known, so no other rounding passes."""
        golden = self.goldens.get(name)
        if golden is None:
            return None
        now = pixels_of(data, name)
        return compare_hashes((golden.sha256, golden.shape), (now.sha256, now.shape), golden.facts, facts)

    def update(self, name: str, data: bytes, facts: Facts) -> None:
        """As Goldens; `finish` writes it."""
        pixels = pixels_of(data, name)
        self.goldens[name] = Golden(pixels.sha256, pixels.shape, facts)

    def remove(self, names: Collection[str]) -> None:
        """As Goldens; `finish` writes it."""
        for name in names:
            self.goldens.pop(name, None)

    def finish(self) -> None:
        """Write all the lines, in the order of their names; the file is replaced at once."""
        store.replace(_lines(self.goldens), self.path, ADVICE)


def _lines(goldens: Mapping[str, Golden]) -> Iterable[bytes]:
    return (f"{goldens[name].as_line(name)}\n".encode() for name in sorted(goldens))


def _read_lines(path: Path) -> dict[str, Golden]:
    """The goldens in a .jsonl file by their names; raises UsageError with the line that is bad."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UsageError(f"--check {path}: cannot be read: {reason.lower()}; check the path") from None
    goldens: dict[str, Golden] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        name, golden = _read_line(line, f"{path}:{number}")
        if name in goldens:
            raise UsageError(f"{path}:{number}: {name} is there twice; remove one of the lines")
        goldens[name] = golden
    return goldens


def _read_line(line: str, place: str) -> tuple[str, Golden]:
    try:
        values: Any = json.loads(line)
    except (ValueError, RecursionError):
        values = None
    match values:
        case {"name": str(name), "sha256": str(sha256), "shape": str(shape)}:
            facts = values.get("facts")
            return name, Golden(sha256, shape, facts if isinstance(facts, dict) else {})
    raise UsageError(
        f"{place}: is no golden, an object with name, sha256 and shape; make the file with --update"
    )


def _facts_in(golden: bytes, name: str) -> Facts:
    """What a golden picture says of how it was made; nothing if it was saved without metadata."""

    try:
        return read_png_metadata(io.BytesIO(golden), name).facts(name)
    except ImageError:
        return {}
