"""Literal: what is text in a template, hidden from the library that reads templates and would take it for syntax.

`50%`, `$5`, `#ff8800`, `https://…` and a `__` without a partner stop its parser or are cut by it. Here they are words,
as they are in a prompt without variants. Each is replaced by a character that Unicode keeps out of all texts.
"""

from __future__ import annotations

import re

UNDERSCORES = "__"
_HIDDEN = ("$", "%", "#", "/", UNDERSCORES, "\t", " ", "\n")
_BY_TEXT = {text: chr(0xFDD0 + i) for i, text in enumerate(_HIDDEN)}
_BY_CHARACTER = str.maketrans({character: text for text, character in _BY_TEXT.items()})

_NETWORK = re.compile(r"<\w+:[^>]+>")
_WILDCARD = re.compile(r"(__(?=[^\s_])(?:(?!__).)+(?<=\S)__)")
_SIGN = re.compile(
    r"""
      [$%]?\{ | \}                   # syntax, which opens or closes a bracket
    | \$\$                           # syntax in a bracket
    | [$%\#\t] | /(?=[/*])           # text
    | (?<=[{|])[ \n](?!\s*(?:[!~@{]|[-\d]+\$\$|[.\d]+::))  # the blank before a choice
    """,
    re.VERBOSE,
)


def wildcards_in(text: str) -> list[str]:
    """The names between two `__`, with what may stand there beside a name; none in the name of a network."""
    return [found[2:-2] for found in _WILDCARD.findall(_hide_in_networks(text))]


def hide(text: str, comments: bool = False) -> str:
    """The text without what would be taken for syntax; if it may hold `comments`, a # still begins one."""
    parts = _WILDCARD.split(_hide_in_networks(text))
    parts[::2] = [part.replace(UNDERSCORES, _BY_TEXT[UNDERSCORES]) for part in parts[::2]]
    result: list[str] = []
    text = "".join(parts)
    depth, end = 0, 0
    for found in _SIGN.finditer(text):
        sign = found[0]
        depth = max(depth + sign.endswith("{") - (sign == "}"), 0)
        is_syntax = sign[-1] in "{}" or (sign == "$$" and depth) or (sign == "#" and comments)
        if sign in " \n" and text[found.start() - 2 : found.start()] in ("${", "%{"):
            is_syntax = True
        hidden = sign if is_syntax else "".join(_BY_TEXT[each] for each in sign)
        result += (text[end : found.start()], hidden)
        end = found.end()
    return "".join((*result, text[end:]))


def show(text: str) -> str:
    """The text as it was before `hide`."""
    return text.translate(_BY_CHARACTER)


def _hide_in_networks(text: str) -> str:
    """The text whose `<lora:my__name:1>` hold no `__` any more: there it is a part of the name."""
    return _NETWORK.sub(lambda found: found[0].replace(UNDERSCORES, _BY_TEXT[UNDERSCORES]), text)
