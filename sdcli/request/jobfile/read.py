"""Read: job files of every dialect, recognised by what they hold, as the jobs of a batch."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sdcli.errors import SdError
from sdcli.request.jobfile.batch_job import BatchJob, JobFileError, Source
from sdcli.request.jobfile.combinations import MAX_JOBS
from sdcli.request.jobfile.document import Document, read_document
from sdcli.request.jobfile.entry import Entry
from sdcli.request.jobfile.keys import TOP
from sdcli.request.jobfile.lines import read_lines
from sdcli.request.jobfile.nodes import Faults, Node, NotReadable
from sdcli.request.jobfile.openai_lines import is_openai_line, openai_entry
from sdcli.request.jobfile.pictures import is_picture, picture_job
from sdcli.request.jobfile.places import STANDARD_INPUT, Place
from sdcli.request.jobfile.requests import Settings, no_settings
from sdcli.request.jobfile.rows import is_header, read_rows
from sdcli.request.jobfile.sources import check_size, read_bytes, text_of
from sdcli.request.jobfile.strict_json import read_json, read_json_line

if TYPE_CHECKING:
    from sdcli.request.other_tools.reading import FindModel

_YAML = re.compile(rf"(?:---.*\n|#.*\n|\s*\n)*(?:\{{?\s*({'|'.join(TOP)}|prompt)\s*:|-\s+[\w-]+\s*:|-\s*\{{)")
_JSON = re.compile(r"\s*(\{\s*[\"}]|\[\s*[\[{\"\]])")


def _only_tiny(name: str, sha256: str) -> str | None:
    return "tiny" if name == "tiny" else None


def read_jobs(
    files: Sequence[str],
    standard_input: Callable[[], bytes],
    defaults: Mapping[str, Any],
    find_model: FindModel = _only_tiny,
    settings: Settings = no_settings,
) -> tuple[BatchJob, ...]:
    """The jobs of job files and pictures, in their order; - is standard input, which is read when it comes.

    `defaults` are fields of a Request that were typed for the whole batch. They win over what a file says; where a job
    has an axis of such a field, that is a fault. `settings` fill what neither says, but of a picture that is made again
    only the device. `find_model` finds the models of other tools' pictures. Raises
    JobFileError with all faults.
    """
    reading = _Reading(defaults, find_model, settings)
    jobs: list[BatchJob] = []
    for number, file in enumerate(files, 1):
        if file == "-" and "-" in files[: number - 1]:
            reading.faults.add(Source(STANDARD_INPUT), "is named twice, and can be read once; name it once")
            continue
        for entry in reading.entries(file, standard_input):
            jobs += entry.jobs(reading.faults) if isinstance(entry, Entry) else [entry]
            if len(jobs) > MAX_JOBS:
                message = f"with this job there are {len(jobs):,}, and at most {MAX_JOBS:,} are taken; split the batch"
                reading.faults.add(entry.source, message)
                break
    if not jobs and not reading.faults.found:
        reading.faults.add(
            Source(", ".join(map(_shown, files)) or "-"), "there is no job; write one on a line"
        )
    if reading.faults.found:
        raise JobFileError(reading.faults.in_order(), jobs)
    return tuple(jobs)


def _shown(file: str) -> str:
    return STANDARD_INPUT if file == "-" else file


class _Reading:
    """Reads files one after the other, and notes their faults."""

    def __init__(self, given: Mapping[str, Any], find_model: FindModel, settings: Settings) -> None:
        self.given, self.find_model, self.settings = given, find_model, settings
        self.faults = Faults()
        self.custom_ids: set[str] = set()

    def entries(self, file: str, standard_input: Callable[[], bytes]) -> list[Entry | BatchJob]:
        """The entries of a file, or the job of a picture; none if it cannot be read."""
        place = Place(_shown(file))
        try:
            data = standard_input() if file == "-" else read_bytes(file)
            check_size(data)
            if is_picture(data) and file != "-":
                return list(self.picture(file, Source(file), 1))
            return self.dialect(text_of(data), place)
        except NotReadable as error:
            for line, problem in error.problems:
                self.faults.add(Source(place.file, line), problem)
        except SdError as error:
            self.faults.add(Source(place.file), error)
        return []

    def picture(self, path: str, source: Source, number: int) -> list[BatchJob]:
        """The job of a picture; none after a fault."""
        try:
            job = picture_job(path, source, number, self.given, self.find_model)
            device = self.settings({}).get("device") if job.request.device == "auto" else None
            return [replace(job, request=job.request.replace(device=device)) if device else job]
        except SdError as error:
            self.faults.add(source, error)
        return []

    def dialect(self, text: str, place: Place) -> list[Entry | BatchJob]:
        """The entries of a text, in the dialect that its name or its beginning tells."""
        shared = Document(place, self.given, self.settings)
        texts = Document(Place(place.file, texts=True), self.given, self.settings)
        ending = place.file.lower().rpartition(".")[2]
        if ending in ("jsonl", "ndjson") or (_JSON.match(text) and _begins_with_object(text)):
            return self.json_lines(text, shared)
        is_yaml = ending in ("yaml", "yml") or (ending not in ("csv", "json") and _looks_like_yaml(text))
        if is_yaml or ending == "json" or _JSON.match(text):
            tree = read_tree(text, is_yaml)
            if is_openai_line(tree):
                return self.json_lines(text, shared, tree)
            return [*read_document(tree, shared, _read_tree_of, self.faults)]
        if ending == "csv" or is_header(text.partition("\n")[0]):
            return [*read_rows(text, texts, self.faults)]
        return read_lines(text, texts, self.picture, self.faults)

    def json_lines(self, text: str, shared: Document, whole: Node | None = None) -> list[Entry | BatchJob]:
        """The entries of JSON lines, each of which is a job of ours or a request of OpenAI's."""
        found: list[Entry | BatchJob] = []
        for node in [whole] if whole else self.nodes(text, shared.place):
            number = len(found) + 1
            if is_openai_line(node):
                entry = openai_entry(node, number, shared, self.custom_ids, self.faults)
            else:
                entry = shared.entry(node, number, self.faults)
            found += [entry] if entry else []
        return found

    def nodes(self, text: str, place: Place) -> list[Node]:
        """The values of JSON lines; one that cannot be read is a fault, and the next are read."""
        found = []
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    found.append(read_json_line(line, number))
                except NotReadable as error:
                    for at, problem in error.problems:
                        self.faults.add(Source(place.file, at), problem)
        return found


def read_tree(text: str, is_yaml: bool) -> Node:
    """What a YAML or JSON text says; raises NotReadable."""
    if is_yaml:
        from sdcli.request.jobfile.strict_yaml import read_yaml

        return read_yaml(text)
    return read_json(text)


def _read_tree_of(file: str) -> Node:
    """What an included file says, which is JSON if it looks so, and else YAML."""
    text = text_of(read_bytes(file))
    return read_tree(text, file.lower().endswith((".yaml", ".yml")) or not _JSON.match(text))


def _looks_like_yaml(text: str) -> bool:
    """True if a text begins with a key of ours, or is a list with a hyphen before each item."""
    lines = [line for line in text.split("\n") if line.strip() and not line.startswith("#")]
    return bool(_YAML.match(text)) or (bool(lines) and all(line.startswith("- ") for line in lines))


def _begins_with_object(text: str) -> bool:
    """True if the first line that is not empty is a JSON object, and others follow."""
    first, _, rest = text.lstrip().partition("\n")
    if not rest.strip() or not first.startswith("{"):
        return False
    try:
        read_json_line(first, 1)
    except NotReadable:
        return first.rstrip().endswith("}") and rest.lstrip().startswith("{")
    return True
