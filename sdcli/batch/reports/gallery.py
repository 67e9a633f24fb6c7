"""Gallery: a batch as one page for a browser that needs nothing else: to look through, filter, sort and compare."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from sdcli.batch.outcome import Outcome
from sdcli.batch.reports.cells import open_picture, scaled
from sdcli.batch.reports.described import (
    WORDS,
    axes_of,
    headline,
    name_of,
    reason_of,
    request_of,
    seconds_of,
    settings_of,
    value_text,
)
from sdcli.request.command_line import command_line

MAX_BYTES = 20_000_000  # of a page; a browser opens one of that size at once
THUMB = 256  # pixels of the longer side of a small picture
QUALITY = 80  # of its WebP
TEMPLATE = Path(__file__).with_name("gallery.html")
FACTS = ("sdcli", "torch", "device", "dtype", "threads")
"""The facts of a picture that are shown, besides the hash of its model."""
_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}


@dataclass(frozen=True)
class Entry:
    """What the page knows of one outcome, without the full picture."""

    record: Mapping[str, Any]
    path: Path | None  # of the file that is embedded
    bytes: int  # that it takes of a page


def gallery(
    outcomes: Sequence[Outcome], title: str, embed: bool = False, page: Path = Path("gallery.html")
) -> Iterator[tuple[str, bytes]]:
    """The file name and the bytes of each page; there are several where one would be above 20 MB.

    `page` is where the first one goes: the others stand beside it, numbered, and the links to the pictures' files start
    there. With `embed` the files themselves are in the page, which can then be sent alone.
    """
    entries = [_entry(outcome, embed, page.parent) for outcome in outcomes]
    parts = _parts(entries)
    names = [page.name if i == 0 else f"{page.stem}-{i + 1}{page.suffix}" for i in range(len(parts))]
    shared = {
        "title": title,
        "summary": headline(outcomes),
        "pages": names,
        "words": WORDS,
        "axes": axes_of(outcomes),
    }
    for i, part in enumerate(parts):
        records = [{**entry.record, "full": _embedded(entry.path)} for entry in part]
        yield names[i], _filled(title, {**shared, "page": i, "pictures": records})


def _parts(entries: Sequence[Entry]) -> list[list[Entry]]:
    """The entries of each page."""
    parts: list[list[Entry]] = [[]]
    size = 0
    for entry in entries:
        if parts[-1] and size + entry.bytes > MAX_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(entry)
        size += entry.bytes
    return parts


# --- what the page knows


def _entry(outcome: Outcome, embed: bool, folder: Path) -> Entry:
    thumb = _thumb(outcome.path)
    record = {
        "name": name_of(outcome),
        "state": outcome.state,
        "reason": "" if outcome.state == "skipped" else reason_of(outcome),
        "href": _link(outcome.path, folder),
        "thumb": thumb,
        "axes": {name: _plain(value) for name, value in outcome.job.axes.items()},
        "fields": _fields(outcome),
        "commands": _commands(outcome),
    }
    path = outcome.path if embed and thumb else None
    size = len(json.dumps(record)) + (path.stat().st_size * 4 // 3 if path else 0)
    return Entry(record, path, size)


def _fields(outcome: Outcome) -> dict[str, Any]:
    """Everything that can be sorted and filtered by, in the order in which it is shown; nothing that is empty."""
    facts = {name: outcome.facts[name] for name in FACTS if name in outcome.facts}
    model = outcome.facts.get("model")
    fields = {
        "name": name_of(outcome),
        "state": WORDS[outcome.state],
        "entry": outcome.job.entry,
        **outcome.job.axes,
        **settings_of(outcome),
        "seconds": seconds_of(outcome) or None,
        "file": None if outcome.path is None else str(outcome.path),
        "asked for at": str(outcome.job.source),
        **facts,
        "model sha256": model.get("sha256") if isinstance(model, Mapping) else None,
        "sha256": outcome.sha256,
    }
    return {name: _plain(value) for name, value in fields.items() if value not in (None, "", ())}


def _plain(value: Any) -> Any:
    """A number as it is, anything else as text."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else value_text(value)


def _commands(outcome: Outcome) -> list[str]:
    """The commands that draw the picture again: from its file, and from its settings."""
    again = [] if outcome.path is None else [shlex.join(["sd", "again", _not_an_option(str(outcome.path))])]
    return [*again, *filter(None, [command_line(request_of(outcome))])]


def _not_an_option(path: str) -> str:
    return f"./{path}" if path.startswith("-") else path


def _link(path: Path | None, folder: Path) -> str:
    """The address of a file as seen from a page in this folder."""
    if path is None:
        return ""
    try:
        relative = os.path.relpath(path, folder)
    except ValueError:  # on another drive
        return path.absolute().as_uri()
    return quote(Path(relative).as_posix(), safe="/", errors="surrogateescape").replace(":", "%3A")


def _thumb(path: Path | None) -> Mapping[str, Any] | None:
    """A small picture of a file with its size; None if there is none to see."""
    picture = open_picture(path) if path is not None else None
    if picture is None:
        return None
    small = picture.resize(scaled(picture.size, (THUMB, THUMB)), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    small.save(data, "WEBP", quality=QUALITY)
    return {"src": _data_address("image/webp", data.getvalue()), "size": small.size, "full": picture.size}


def _embedded(path: Path | None) -> str:
    """The file itself as an address; empty if it is not embedded."""
    return (
        "" if path is None else _data_address(_TYPES.get(path.suffix.lower(), "image/png"), path.read_bytes())
    )


def _data_address(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


# --- the page


def _filled(title: str, data: Mapping[str, Any]) -> bytes:
    """The template with its holes filled. Nothing that is filled in is read for holes again."""
    template = TEMPLATE.read_text(encoding="utf-8")
    values = {
        "{{policy}}": _policy(template),
        "{{title}}": html.escape(title.encode("utf-8", "replace").decode("utf-8")),
        "{{data}}": json_in_html(data),
    }
    pieces = re.split(r"(\{\{\w+\}\})", template)
    return "".join(values.get(piece, piece) for piece in pieces).encode("utf-8")


def json_in_html(data: Mapping[str, Any]) -> str:
    """JSON for a script element, in ASCII: no `</script>`, `<!--` or line separator of a text can end or change it."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _policy(template: str) -> str:
    """The page's content security policy: its own style and script by their hashes, and pictures; nothing else."""
    style, script = (
        base64.b64encode(hashlib.sha256(body.encode("utf-8")).digest()).decode("ascii")
        for tag in ("style", "script")
        for body in re.findall(rf"<{tag}>(.*?)</{tag}>", template, re.DOTALL)
    )
    return (
        f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; "
        "img-src 'self' data: file:; base-uri 'none'; form-action 'none'"
    )
