"""Catalogue: the user's files by kind, with family, size, hash and the words that they were trained with.

A file's kind is what its header says, wherever it lies; of one that cannot be read, that of its folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sdcli.checkpoints import hashes
from sdcli.checkpoints.facts_cache import FactsCache, version_of
from sdcli.checkpoints.folders import CHECKPOINTS, TITLES, NamedFile, named_files
from sdcli.checkpoints.named_files import SUFFIX
from sdcli.errors import ModelError, SdError

SIDE_FILES = (".yaml", ".json", ".civitai.info")
"""Endings of files beside a file that tell of it: its config, A1111's notes, and Civitai's facts."""
MAX_SIDE_BYTES = 1_000_000


@dataclass(frozen=True)
class CatalogueFile:
    """One file or diffusers folder, or a repo of the hub: what it is, and what it is named by."""

    kind: str  # as in folders.TITLES
    name: str  # that options take
    path: str
    family: str = ""  # such as sd1, or `SD 1` of an adapter; empty if unknown
    summary: str = ""  # in words: what it is
    words: tuple[str, ...] = ()  # that it was trained with
    fault: str = ""  # why it cannot be used; empty if it can
    size: int = 0  # bytes
    sha256: str = ""  # empty if it is not known yet
    revision: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """All there is, for --json; `kind` is one file's: lora."""
        return {
            "name": self.name,
            "revision": self.revision,
            "path": self.path,
            "kind": self.kind.removesuffix("s"),
            "family": self.family or None,
            "summary": self.summary or None,
            "folder": self.name.rpartition("/")[0] if self.revision is None and self.size else "",
            "size": self.size or None,
            "sha256": self.sha256 or None,
            "autov2": self.sha256[:10] or None,
            "trained_words": list(self.words),
            "fault": self.fault or None,
        }


def catalogue(kinds: Iterable[str] = tuple(TITLES), with_hashes: bool = False) -> list[CatalogueFile]:
    """The files of these kinds in the user's folders, by kind and in the order of the folders.

    What was told of a file that has not changed is not told anew. With `with_hashes`, hashes are computed that are not
    known yet.
    """
    cache = FactsCache()
    found: dict[str, CatalogueFile] = {}
    for kind in TITLES:
        for file in named_files(kind):
            if str(file.path) not in found:
                found[str(file.path)] = _described(file, cache)
    cache.save()
    wanted = [file for kind in TITLES for file in found.values() if file.kind == kind and kind in set(kinds)]
    return [*_with_hashes(wanted, with_hashes)]


def _with_hashes(files: list[CatalogueFile], compute: bool) -> Iterator[CatalogueFile]:
    known = hashes.known(Path(file.path) for file in files)
    for file in files:
        path = Path(file.path)
        sha256 = known.get(path, "")
        if not sha256 and compute and path.is_file():
            try:
                sha256 = hashes.digest([path])
            except OSError:  # gone since
                sha256 = ""
        yield replace(file, sha256=sha256)


def _described(file: NamedFile, cache: FactsCache) -> CatalogueFile:
    path = file.path
    version = version_of(_files_of(path))
    facts = cache.get(path, version)
    if facts is None:
        facts = _facts(file)
        cache.put(path, version, facts)
    size = sum(each[1] for each in version if each[0].endswith(".safetensors"))
    words = tuple(map(str, facts["words"]))
    return CatalogueFile(
        facts["kind"], file.name, str(path), facts["family"], facts["summary"], words, facts["fault"], size
    )


def _files_of(path: Path) -> list[str]:
    """The files that what is told of a file or folder depends on."""
    if not path.name.lower().endswith(SUFFIX) and path.is_dir():
        return sorted(os.path.join(parent, name) for parent, _, names in os.walk(path) for name in names)
    stem = os.path.splitext(path)[0]
    return [str(path), *(stem + ending for ending in SIDE_FILES)]


def _facts(file: NamedFile) -> dict[str, Any]:
    from sdcli.checkpoints import header  # these are not needed where all is known

    with header.read_once():
        for recognise in (_adapter, _vae, _checkpoint):
            try:
                found = recognise(file)
            except SdError as error:
                return {"kind": file.kind, "family": "", "summary": "", "words": [], "fault": str(error)}
            if found is not None:
                words = dict.fromkeys([*found.pop("words"), *_words_beside(file.path)])
                return {"words": list(words), "fault": "", **found}
    raise AssertionError("unreachable: what is no model is an error")


def _adapter(file: NamedFile) -> dict[str, Any] | None:
    from sdcli.checkpoints.adapter_info import recognise

    found = recognise(file.path)
    if found is None:
        return None
    summary = str(found.facts["kind"])
    return {"kind": found.kind, "family": found.trained_for, "summary": summary, "words": found.words}


def _vae(file: NamedFile) -> dict[str, Any] | None:
    from sdcli.checkpoints import header, vae_file

    if file.path.is_dir():
        return None
    summary = vae_file.kind_of_vae(header.read(file.path))
    return {"kind": "vaes", "family": "", "summary": summary, "words": ()} if summary else None


def _checkpoint(file: NamedFile) -> dict[str, Any]:
    from sdcli.checkpoints import checkpoint

    family = checkpoint.read(str(file.path)).family.name
    return {"kind": CHECKPOINTS, "family": family, "summary": f"a {family} model", "words": ()}


# --- what other tools write beside a file


def _words_beside(path: Path) -> Iterator[str]:
    """The words that A1111's notes (`activation text`) or Civitai's facts (`trainedWords`) tell of a file."""
    readers: Mapping[str, Callable[[Mapping[str, Any]], object]] = {
        ".json": lambda notes: notes.get("activation text"),
        ".civitai.info": lambda facts: facts.get("trainedWords"),
    }
    for ending, words_of in readers.items():
        notes = _read_json(path.with_suffix(ending))
        words = words_of(notes) if isinstance(notes, dict) else None
        texts = words.split(",") if isinstance(words, str) else words if isinstance(words, list) else []
        yield from (text.strip() for text in texts if isinstance(text, str) and text.strip())


def _read_json(path: Path) -> object:
    try:
        with open(path, "rb") as file:
            return json.loads(file.read(MAX_SIDE_BYTES))
    except (OSError, ValueError, RecursionError):
        return None


def of_hub(repo: str, revision: str | None, path: Path) -> CatalogueFile:
    """A repo in the hub's cache, or a file of it."""
    from sdcli.checkpoints import checkpoint

    try:
        family = checkpoint.read(str(path)).family.name
    except ModelError as error:
        return CatalogueFile(CHECKPOINTS, repo, str(path), fault=str(error), revision=revision)
    return CatalogueFile(CHECKPOINTS, repo, str(path), family, f"a {family} model", revision=revision)
