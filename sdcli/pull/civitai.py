"""Civitai: a version of a model by its number, found by the site's API and fetched into the folder for its kind."""

from __future__ import annotations

import json
import os
import re
import urllib.error
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

from sdcli import settings, store
from sdcli.checkpoints import folders, header
from sdcli.errors import ModelError, UsageError
from sdcli.pull.download import Access, Watch, download, opened, origin_of, why_not

SITE = "https://civitai.com"
MAX_ANSWER = 10_000_000  # bytes
KINDS = {
    "Checkpoint": folders.CHECKPOINTS,
    "VAE": "vaes",
    "LORA": "loras",
    "LoCon": "loras",
    "DoRA": "loras",
    "TextualInversion": "embeddings",
    "Hypernetwork": "hypernets",
    "Controlnet": "controls",
    "Upscaler": "upscalers",
}
"""Type of a model on the site -> the kind of its file."""
SUFFIX = ".safetensors"
_HOW = "write civitai:VERSION, civitai:MODEL@VERSION or civitai:https://civitai.com/models/…"


@dataclass(frozen=True)
class SharedFile:
    """A file on the site, and what the site says of it."""

    name: str
    kind: str
    url: str
    sha256: str
    words: tuple[str, ...] = ()


def pull(source: str, tell: Callable[[str], None], watch: Watch = lambda done, size: None) -> Path:
    """Fetch the file of the version that `source` names into the folder for its kind; returns its path.

    `tell` gets a line with its kind and the words that it was trained with. Raises UsageError for what names no
    version, ModelError and WriteError as `download`, and for a file that is no safetensors file.
    """
    site = os.environ.get("SDCLI_CIVITAI") or SITE
    access = Access(origin_of(site), os.environ.get("CIVITAI_TOKEN", "").strip())
    version = _version(source.removeprefix("civitai:"), site, access)
    file = shared_file(source, _ask(source, f"{site}/api/v1/model-versions/{version}", access), site)
    path = download(file.url, target_folder(file.kind) / file.name, file.sha256, access, watch)
    header.read(path)  # raises if it is another kind of file with this name
    words = f"; words: {', '.join(file.words)}" if file.words else ""
    tell(f"{source}: a file of {file.kind}, {path.stem}{words}")
    return path


def shared_file(source: str, version: Mapping[str, Any], site: str = SITE) -> SharedFile:
    """The safetensors file of a version, from the site's answer about it: the primary one, else the first.

    Its name is safe as that of a file in a folder. Raises ModelError for a kind that has no place here, and if there is
    no safetensors file with a hash.
    """
    model = version.get("model")
    kind_there = str(model.get("type", "")) if isinstance(model, dict) else ""
    if kind_there not in KINDS:
        raise ModelError(f"{source}: is of the type {kind_there[:40]!r}, for which there is no use here")
    listed = version.get("files")
    files = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    usable = [each for each in files if str(each.get("name", "")).lower().endswith(SUFFIX)]
    if not usable:
        names = ", ".join(str(each.get("name"))[:60] for each in files[:3]) or "no file"
        raise ModelError(
            f"{source}: has {names}, and no safetensors file; a pickle can run code: fetch it yourself, and "
            "`sd models convert` makes safetensors of it"
        )
    chosen = next((each for each in usable if each.get("primary") is True), usable[0])
    if chosen.get("pickleScanResult") == "Danger":
        raise ModelError(
            f"{source}: the site found {str(chosen['name'])[:60]!r} to be dangerous; it is not fetched"
        )
    hashes = chosen.get("hashes")
    sha256 = str(hashes.get("SHA256", "")).lower() if isinstance(hashes, dict) else ""
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ModelError(
            f"{source}: the site has no SHA256 of it, by which it could be checked; fetch it yourself"
        )
    words = version.get("trainedWords")
    return SharedFile(
        name=_safe_name(str(chosen["name"])),
        kind=KINDS[kind_there],
        url=urljoin(site, str(chosen.get("downloadUrl", ""))),
        sha256=sha256,
        words=tuple(each for each in words if isinstance(each, str)) if isinstance(words, list) else (),
    )


def target_folder(kind: str) -> Path:
    """The folder that files of a kind are fetched into: the first that there is, else one in the data folder."""
    places = folders.places(kind)
    if kind == folders.CHECKPOINTS:
        named = [place for place in places if place.name in folders.CHECKPOINT_FOLDERS[:2]]
        places = [*named, *places]
    data = settings.data_folder()
    if not places and data is None:
        raise ModelError(f"there is no folder for {kind}; set SDCLI_{kind.upper()} to one")
    return places[0] if places or data is None else data / settings.NETWORK_FOLDERS[kind][0]


def by_hash(sha256: str) -> str:
    """What the site calls the file with this hash, such as `DreamShaper, 8`; empty if it knows none."""
    site = os.environ.get("SDCLI_CIVITAI") or SITE
    access = Access(origin_of(site), os.environ.get("CIVITAI_TOKEN", "").strip())
    try:
        found = _ask("civitai", f"{site}/api/v1/model-versions/by-hash/{sha256}", access)
    except _NotThere:
        return ""
    model = found.get("model")
    name = str(model.get("name", "")) if isinstance(model, dict) else ""
    return ", ".join(filter(None, (name, str(found.get("name", "")))))


class _NotThere(ModelError):
    """The site has none of it."""


def _version(text: str, site: str, access: Access) -> int:
    """The number of the version that is named; the newest of a model whose page is named without one."""
    if match := re.fullmatch(r"(?:\d{1,12}@)?(\d{1,12})", text):
        return int(match[1])
    parts = urlsplit(text)
    if parts.scheme not in ("https", "http"):
        raise UsageError(f"civitai:{text[:60]}: names no version; {_HOW}")
    shown = f"civitai:{parts.scheme}://{parts.hostname}{parts.path}"  # without what is behind ?, which may be a token
    if match := re.match(r"/api/download/models/(\d{1,12})$", parts.path):
        return int(match[1])
    named = parse_qs(parts.query).get("modelVersionId", [""])[0]
    if re.fullmatch(r"\d{1,12}", named):
        return int(named)
    if match := re.match(r"/models/(\d{1,12})(/|$)", parts.path):
        versions = _ask(shown, f"{site}/api/v1/models/{match[1]}", access).get("modelVersions")
        first = versions[0] if isinstance(versions, list) and versions else None
        if isinstance(first, dict) and type(first.get("id")) is int:
            return int(first["id"])
        raise ModelError(f"{shown}: the model has no version")
    raise UsageError(f"{shown}: is no page of a model; {_HOW}")


def _ask(source: str, url: str, access: Access) -> Mapping[str, Any]:
    """The JSON object that the site answers with; raises ModelError."""
    try:
        with opened(url, access) as answer:
            found = json.loads(answer.read(MAX_ANSWER))
    except urllib.error.HTTPError as error:
        kind = _NotThere if error.code == 404 else ModelError
        raise kind(f"{source}: {why_not(error)}") from None
    except (ValueError, RecursionError):
        found = None
    except (OSError, HTTPException) as error:
        raise ModelError(f"{source}: {why_not(error)}") from None
    if not isinstance(found, dict):
        raise ModelError(
            f"{source}: what answers in the site's place is not it; log in to the network, or try again"
        )
    return found


def _safe_name(name: str) -> str:
    """The name as that of a file in the folder: no folders, nothing that a system forbids."""
    stem = re.split(r"[\\/]", name)[-1][: -len(SUFFIX)]
    return store.safe_name(stem, SUFFIX)
