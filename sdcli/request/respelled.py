"""Respelled: an option with a file whose settings were typed as other tools do, `FILE@0.5,end=0.6`, written as here."""

from __future__ import annotations

import re
from pathlib import PurePath

from sdcli.errors import UsageError

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)"
_SETTING = r"[a-z_]+\s*[=:]\s*[^:,;@=]+"
_TYPED = re.compile(rf"(?P<file>[^@,;]+?)(?P<settings>(?:[@:,;=]\s*(?:{_SETTING}|{_NUMBER}))+)")
_PIECE = re.compile(rf"[@:,;=]\s*(?:(?P<name>[a-z_]+)\s*[=:]\s*(?P<value>[^:,;@=]+)|(?P<number>{_NUMBER}))")

_STRENGTH = {"lora": "@{}", "hypernet": "@{}", "control": ":weight={}", "ip_adapter": ":weight={}"}
"""Field -> how a strength is written behind its file; an embedding has none."""


def check_spelling(field: str, text: str) -> None:
    """Raise UsageError, with the right spelling, for the text of an option that names no file as it is typed."""
    typed = f"{'--' + field.replace('_', '-')} {text}"
    if right := respelled(field, text):
        raise UsageError(f"{typed}: no file is called so; settings are written behind it so: {right}")
    if field == "embedding" and (match := _TYPED.fullmatch(text)):
        name = PurePath(match["file"]).stem
        raise UsageError(f"{typed}: has no settings; a prompt says how strongly it counts: ({name}:1.2)")


def respelled(field: str, text: str) -> str:
    """The option's text with its settings as they are written here; empty if it is so already, or has none."""
    typed = _TYPED.fullmatch(text)
    if typed is None or field not in _STRENGTH:
        return ""
    numbers, settings = [], []
    for piece in _PIECE.finditer(typed["settings"]):
        if piece["number"]:
            numbers.append(piece["number"])
        else:
            settings.append(f":{piece['name']}={piece['value'].strip()}")
    if len(numbers) > 1:  # which is which, tools do not agree on
        return ""
    strength = "".join(map(_STRENGTH[field].format, numbers))
    right = typed["file"].strip() + strength + "".join(settings)
    return "" if right == text else right
