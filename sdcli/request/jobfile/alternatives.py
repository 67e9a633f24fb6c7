"""Alternatives: `{red|blue}` and `__name__` in the prompts of a job as axes, which `expand: all` asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sdcli import settings
from sdcli.errors import UsageError
from sdcli.request.jobfile.values import Asked, Axis
from sdcli.request.prepare import PROMPTS
from sdcli.request.prompt.variants import combinations, holds_variants

MAX_ALTERNATIVES = 10_000

Values = dict[str, Asked]


def with_alternatives(
    values: Values, axes: Sequence[Axis], given: Mapping[str, Any]
) -> tuple[Values, list[Axis], dict[str, Any]]:
    """The values, axes and given fields of an entry with each prompt that holds alternatives as an axis.

    Those axes come before the others; the leftmost alternative changes last. The prompts are then drawn as they stand.
    Raises UsageError for an unknown wildcard, for what cannot be read, and where not all alternatives would be drawn.
    """
    fields = {name: asked.value for name, asked in values.items()} | dict(given)
    if fields.get("variants") is False:
        raise UsageError("variants is false, and expand: all draws them; leave one of them out")
    if any(map(holds_variants, fields.get("region", ()))):
        raise UsageError("expand: all does not reach into region; write a job for each alternative")
    folder = _folder(fields.get("wildcards"))
    kept = {**values, **{name: Asked(given[name], given[name]) for name in PROMPTS if name in given}}
    new = [
        Axis((name,), [(each,) for each in _alternatives(kept.pop(name), folder)])
        for name in PROMPTS
        if name in kept and holds_variants(kept[name].value)
    ]
    all_axes = [*new, *(_expanded(axis, folder) for axis in axes)]
    texts = [asked.value for name, asked in kept.items() if name in PROMPTS]
    texts += [asked.value for axis in all_axes for asked in _prompts_of(axis)]
    kept.pop("wildcards", None)
    kept["variants"] = Asked(None, False if any(map(holds_variants, texts)) else None)
    decided = (*PROMPTS, "wildcards", "variants")
    return kept, all_axes, {name: value for name, value in given.items() if name not in decided}


def _prompts_of(axis: Axis) -> Iterator[Asked]:
    """The prompts among an axis's values."""
    for point in axis.points:
        yield from (each for name, each in zip(axis.names, point, strict=True) if name in PROMPTS)


def _folder(named: str | None) -> Path | None:
    """The folder of wildcards that is named, or else that of the user if there is one."""
    folder = Path(named) if named else settings.wildcards_folder()
    return folder if folder and (named or folder.is_dir()) else None


def _expanded(axis: Axis, folder: Path | None) -> Axis:
    """An axis with each of its prompts in all its alternatives."""
    points: list[tuple[Asked, ...]] = []
    for point in axis.points:
        results: list[tuple[Asked, ...]] = [()]
        for name, asked in zip(axis.names, point, strict=True):
            is_open = name in PROMPTS and holds_variants(asked.value)
            choices = _alternatives(asked, folder) if is_open else [asked]
            results = [(*result, choice) for result in results for choice in choices]
        points += results
        if len(points) > MAX_ALTERNATIVES:
            raise _too_many()
    return Axis(axis.names, points)


def _alternatives(asked: Asked, folder: Path | None) -> list[Asked]:
    texts = list(dict.fromkeys(combinations(asked.value, folder, MAX_ALTERNATIVES + 1)))
    if len(texts) > MAX_ALTERNATIVES:
        raise _too_many()
    return [Asked(text, text) for text in texts]


def _too_many() -> UsageError:
    return UsageError(
        f"the alternatives of a prompt are more than {MAX_ALTERNATIVES:,}; take some out, or write expand: draw"
    )
