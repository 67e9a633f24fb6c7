"""Pictures in: those of a body, as base64, as a data: URL or as the file of a form; never a path and never a URL."""

from __future__ import annotations

import base64
import binascii
import io
import re
from collections.abc import Mapping
from typing import Any

from sdcli.errors import ImageError, UsageError
from sdcli.request.inline_image import InlineImage
from sdcli.request.jobfile.keys import OPTIONS, our_key
from sdcli.serve import attached
from sdcli.serve.budget import Budget

FIELDS = tuple(name for name, option in OPTIONS.items() if option.picture)
"""The fields of a request that hold a picture: image, mask, depth."""
MAX_NAME = 1000  # characters
_DATA_URL = re.compile(r"data:image/[\w.+-]+;base64,")
_HOW = "send the picture itself, as base64"


def picture_of(key: str, value: object, budget: Budget) -> InlineImage:
    """The picture under a key: an InlineImage, base64, a data: URL, or `{"data": base64, "name": what is recorded}`.

    Raises UsageError for a path, a URL and what is no base64, ImageError for what is no picture.
    """
    if isinstance(value, InlineImage):
        picture = value
    elif isinstance(value, dict):
        unknown = value.keys() - {"data", "name"}
        name = value.get("name", "-")
        if unknown or not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
            raise UsageError(f'{key}: is not {{"data": base64, "name": text}}')
        picture = InlineImage(_decoded(key, value.get("data")), name)
    else:
        picture = InlineImage(_decoded(key, value))
    budget.check_input(key, *_size(key, picture.png))
    return picture


def _decoded(key: str, value: object) -> bytes:
    if not isinstance(value, str):
        raise UsageError(f"{key}: is no text; {_HOW}")
    if re.match(r"(https?|ftp|file):", value, re.IGNORECASE):
        raise UsageError(f"{key}: no address is fetched; {_HOW}")
    match = _DATA_URL.match(value)
    try:
        data = base64.b64decode("".join(value[match.end() if match else 0 :].split()), validate=True)
    except (binascii.Error, ValueError):
        raise UsageError(f"{key}: is no base64; {_HOW}") from None
    if not data:
        raise UsageError(f"{key}: is empty; {_HOW}")
    return data


def _size(key: str, data: bytes) -> tuple[int, int]:
    """Width and height by the file's header."""
    from PIL import Image

    from sdcli.request.image_formats import READ

    try:
        with Image.open(io.BytesIO(data), formats=list(READ)) as image:
            return image.size
    except Exception:  # whatever Pillow raises for what is no picture, or for one that is much too large
        raise ImageError(f"{key}: is no PNG, JPEG, WebP, GIF or BMP that can be read; {_HOW}") from None


class Pictures:
    """The pictures of one body, each of which a short token stands for while the body is read.

    Those that are `attached` to an option are named in its text instead, by the names that are recorded.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.attached: dict[str, InlineImage] = {}
        self._by_token: dict[str, InlineImage] = {}

    def taken_out(self, value: Any, depth: int = 0) -> Any:
        """A plain value in which each picture is replaced by its token; raises UsageError and ImageError."""
        if depth > 12:
            return value  # which is refused by whoever reads it
        if isinstance(value, list):
            return [self.taken_out(each, depth + 1) for each in value]
        if not isinstance(value, Mapping):
            return value
        return {key: self._value(key, each, depth) for key, each in value.items()}

    def _value(self, key: str, value: Any, depth: int) -> Any:
        field = _field(key)
        if field in attached.FIELDS:
            return self._text(field, value, depth)
        if value is None or field not in FIELDS:
            return self.taken_out(value, depth + 1)
        if isinstance(value, list):
            return [self._token(key, each) for each in value]
        return self._token(key, value)

    def _text(self, field: str, value: Any, depth: int) -> Any:
        """The value of an option in which each object is the text that the command line has for it."""
        if isinstance(value, list) and depth < 12:
            return [self._text(field, each, depth + 1) for each in value]
        return attached.text_of(field, value, self._attach) if isinstance(value, Mapping) else value

    def _attach(self, where: str, value: object) -> InlineImage:
        picture = picture_of(where, value, self.budget)
        name = attached.name_of(picture)
        if self.attached.setdefault(name, picture).png != picture.png:
            raise UsageError(f"{where}: another picture is called {name!r:.80} too; give it another name")
        return picture

    def _token(self, key: str, value: object) -> str:
        picture = picture_of(key, value, self.budget)
        token = f"picture-{len(self._by_token)}"
        same = next((name for name, each in self._by_token.items() if each == picture), token)
        self._by_token[same] = picture
        return same

    def __getitem__(self, token: str) -> InlineImage:
        return self._by_token[token]

    def __contains__(self, token: str) -> bool:
        return token in self._by_token


def _field(key: str) -> str:
    """Our name of a key; empty for one that is nobody's, which is refused by whoever reads it."""
    try:
        return our_key(key)
    except UsageError:
        return ""
