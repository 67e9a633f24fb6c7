"""Styles: named texts that are added to prompts, from a styles.csv of A1111 or a TOML file."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdcli.errors import UsageError
from sdcli.request.prompt.names import nearest

PLACE = "{prompt}"
_TABLE_KEYS = ("prompt", "negative_prompt")


@dataclass(frozen=True)
class Style:
    """What a style adds to the prompt and to the negative prompt; a `{prompt}` in it is where the prompt goes."""

    prompt: str = ""
    negative: str = ""


Styles = Mapping[str, Style]


def read_styles(path: Path) -> Styles:
    """The styles of a file by their names: TOML, with a table for each, or else CSV; raises UsageError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such styles file; check --styles-file") from None
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise UsageError(f"{path}: the styles cannot be read: {reason}; check --styles-file") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: the styles are not UTF-8; save the file as that") from None
    return (_from_toml if path.suffix.lower() == ".toml" else _from_csv)(text, path)


def with_styles(
    prompt: str, negative: str, names: Iterable[str], styles: Styles, path: Path
) -> tuple[str, str]:
    """The prompt and the negative prompt with the styles of these names, in their order.

    Raises UsageError for a name that is not in the file.
    """
    for name in names:
        if name not in styles:
            raise UsageError(f"--style {name!r} is not in {path}; {nearest(name, styles)}")
        style = styles[name]
        prompt, negative = applied(style.prompt, prompt), applied(style.negative, negative)
    return prompt, negative


def applied(style: str, prompt: str) -> str:
    """The prompt in the place that the style has for it, or else followed by the style, after a comma."""
    if PLACE in style:
        return style.replace(PLACE, prompt)
    if not style.strip():
        return prompt
    return ", ".join(text.strip() for text in (prompt, style) if text.strip())


def _from_csv(text: str, path: Path) -> Styles:
    """A1111's columns: name, prompt (text in old files) and negative_prompt. A name that begins with # is a comment."""
    import csv

    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), restval=""))
    except csv.Error as error:
        raise UsageError(f"{path}: is no CSV file of styles: {error}") from None
    styles: dict[str, Style] = {}
    for row in rows:
        prompt = row.get("prompt", row.get("text"))
        if "name" not in row or prompt is None:
            raise UsageError(
                f"{path}: has no columns name and prompt; the first line of a styles.csv names them"
            )
        if not row["name"].startswith("#"):
            styles[row["name"]] = Style(prompt, row.get("negative_prompt", ""))
    return styles


def _from_toml(text: str, path: Path) -> Styles:
    import tomllib

    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: is no TOML file: {error}") from None
    return {name: _from_table(name, table, path) for name, table in tables.items()}


def _from_table(name: str, table: Any, path: Path) -> Style:
    if not isinstance(table, dict):
        raise UsageError(f'{path}: {name} is no table; write [{name}], and below it prompt = "…"')
    for key, value in table.items():
        if key not in _TABLE_KEYS or not isinstance(value, str):
            raise UsageError(
                f"{path}: {name}.{key} is no text of a style; it may have prompt and negative_prompt"
            )
    return Style(table.get("prompt", ""), table.get("negative_prompt", ""))
