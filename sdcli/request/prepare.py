"""Prepare: a request whose prompts are the words that are drawn: styles added, and variants drawn by its seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdcli import settings
from sdcli.errors import UsageError
from sdcli.request.prompt.styles import read_styles, with_styles
from sdcli.request.prompt.variants import choose, holds_variants
from sdcli.request.request import Request

PROMPTS = tuple(
    each.name
    for each in dataclasses.fields(Request)
    if each.name in ("prompt", "negative", "prompt_2", "negative_2")
)
"""The fields that are prompts. The same variants in two of them are drawn alike."""


def prepared(request: Request) -> Request:
    """The request that a picture records: it names no style any more and holds no variants that are yet to be drawn.

    The request has a seed; with `nth(i)` before this, each picture of a count draws its own variants. What is prepared
    already stays as it is. Raises UsageError for a style or wildcard that is unknown, and variants that cannot be read.
    """
    request = _with_styles(request)
    if request.wildcards is not None and not _draws_variants(request):
        given = f"--like {request.like}" if request.variants is None else "--no-variants"
        raise UsageError(
            f"{given} takes __name__ as words, and --wildcards is given; add --variants to draw them"
        )
    if request.wildcards is not None and not Path(request.wildcards).is_dir():
        raise UsageError(f"--wildcards {request.wildcards}: there is no such folder; check the path")
    prompts = {name: getattr(request, name) or "" for name in PROMPTS}
    regions = request.region
    holds = any(map(holds_variants, (*prompts.values(), *regions)))
    if holds and _draws_variants(request):
        seed, folder = request.seed or 0, _folder(request)
        prompts = {name: choose(text, seed, folder) for name, text in prompts.items() if text}
        regions = tuple(choose(text, seed, folder) for text in regions)
    changes = {name: text for name, text in prompts.items() if text != (getattr(request, name) or "")}
    variants = literal({**prompts, **dict(zip(regions, regions, strict=True))}) if holds else None
    return _changed(request, {**changes, "region": regions, "wildcards": None, "variants": variants})


def literal(prompts: Mapping[str, str | None]) -> bool | None:
    """The `variants` of a request whose prompts are drawn as they stand: False if they look as if they held some."""
    return False if any(holds_variants(text or "") for text in prompts.values()) else None


def retyped(request: Request, changes: Mapping[str, Any]) -> Request:
    """A recorded request with changes: variants are read in a prompt that is typed, unless an old one keeps its own."""
    kept = {name: getattr(request, name) for name in PROMPTS if name not in changes}
    return request.replace(
        **{"variants": literal(kept) if len(kept) < len(PROMPTS) else request.variants, **changes}
    )


def with_what_follows(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes of a recorded request with those that follow: what it records for another model or scale is left out."""
    follow: dict[str, Any] = {}
    if "model" in changes:
        follow["revision"] = None  # the recorded revision is of another repo
    if "scale" in changes:
        follow |= {"width": None, "height": None}  # the recorded size follows from the recorded scale
    return {**follow, **changes}


def _with_styles(request: Request) -> Request:
    if not request.style:
        if request.styles_file is not None:
            raise UsageError(
                f"--styles-file {request.styles_file}: no --style is given; name one of its styles"
            )
        return request
    path = Path(request.styles_file) if request.styles_file else settings.styles_file()
    if path is None or not (request.styles_file or path.exists()):
        named = f"{path}: there is no such file" if path else "there is no styles file"
        raise UsageError(
            f"--style {request.style[0]!r}: {named}; name one with --styles-file or SDCLI_STYLES"
        )
    prompt, negative = with_styles(request.prompt, request.negative, request.style, read_styles(path), path)
    return request.replace(prompt=prompt, negative=negative, style=(), styles_file=None)


def _draws_variants(request: Request) -> bool:
    """True if variants are read: told so, or not told and drawing by our own conventions."""
    return request.like == "sdcli" if request.variants is None else request.variants


def _folder(request: Request) -> Path | None:
    """The folder of wildcards that is named, or else that of the user if there is one."""
    if request.wildcards is not None:
        return Path(request.wildcards)
    folder = settings.wildcards_folder()
    return folder if folder and folder.is_dir() else None


def _changed(request: Request, changes: Mapping[str, Any]) -> Request:
    """The request with changes; itself if they change nothing."""
    is_same = all(getattr(request, name) == value for name, value in changes.items())
    return request if is_same else request.replace(**changes)
