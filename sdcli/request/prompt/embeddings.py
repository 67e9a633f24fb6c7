"""Embeddings: whether a prompt names a textual inversion, by the name of its file. No file is opened here."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property

from sdcli.errors import UsageError
from sdcli.request.prompt.names import nearest
from sdcli.tokenizer import Tokenizer

SUFFIX = ".safetensors"
_SYNTAX = re.compile(r"[()\[\]<>|:\\]")
_TYPED = re.compile(r"(?:^|(?<=[\s(]))embedding:((?:\\[()]|[^\s()])+)")
_WEIGHT = re.compile(r":[+-]?[\d.]+$")


class Tokens:
    """Whether a name occurs in texts, by its tokens; brackets and colons, which are syntax there, count as blanks."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.typed = tuple(texts)

    @cached_property
    def texts(self) -> list[str]:
        """The letters of the texts, in which a name is looked for first: that takes a fraction of the time."""
        return [_letters(text) for text in self.typed]

    @cached_property
    def ids(self) -> list[str]:
        """The tokens of the texts."""
        return [_ids(text) for text in self.typed]

    def __call__(self, name: str) -> bool:
        if not any(_letters(name) in text for text in self.texts):
            return False
        ids = _ids(name)
        return bool(ids.strip()) and any(ids in each for each in self.ids)


class Prefixed:
    """Whether a name occurs in texts behind `embedding:`."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.typed = list(_typed(texts))

    def __call__(self, name: str) -> bool:
        return any(each.lower() in (name.lower(), f"{name.lower()}{SUFFIX}") for each in self.typed)

    def check_known(self, spellings: Collection[str], names: Collection[str]) -> None:
        """Raise UsageError if what is typed is not one of the spellings, with the nearest of the names."""
        known = {each.lower() for each in spellings}
        for each in self.typed:
            if each.lower() not in known:
                raise UsageError(
                    f"embedding:{each}: there is no such embedding; {nearest(each, names)} "
                    "SDCLI_EMBEDDINGS names their folder, or --embedding a file"
                )


def _typed(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for match in _TYPED.finditer(text):
            name = _WEIGHT.sub("", match[1]) if text[match.end() : match.end() + 1] == ")" else match[1]
            yield re.sub(r"\\([()])", r"\1", name).strip(",")


def _letters(text: str) -> str:
    """The text without what the tokens of a name do not show, so that a name that occurs by tokens occurs here."""
    return "".join(_SYNTAX.sub("", unicodedata.normalize("NFC", text).lower()).split())


def _ids(text: str) -> str:
    """The token ids of a text, as a text in which others can be looked for."""
    return f" {' '.join(map(str, Tokenizer().ids(_SYNTAX.sub(' ', text))))} "
