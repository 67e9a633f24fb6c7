"""Field types: what a type checker sees where a field takes more types than it holds."""

import os
from typing import overload

from sdcli.request.inline_image import ImageSource, InlineImage

class Path:
    """A field that takes a text or a path, and holds the text."""

    @overload
    def __get__(self, request: None, owner: type) -> Path: ...
    @overload
    def __get__(self, request: object, owner: type) -> str: ...
    def __set__(self, request: object, value: str | os.PathLike[str]) -> None: ...

class OptionalPath:
    """The same, or None."""

    @overload
    def __get__(self, request: None, owner: type) -> OptionalPath: ...
    @overload
    def __get__(self, request: object, owner: type) -> str | None: ...
    def __set__(self, request: object, value: str | os.PathLike[str] | None) -> None: ...

class OptionalImage:
    """A field that takes the name of a picture, an image or an array, and holds the name or an InlineImage, or None."""

    @overload
    def __get__(self, request: None, owner: type) -> OptionalImage: ...
    @overload
    def __get__(self, request: object, owner: type) -> str | InlineImage | None: ...
    def __set__(self, request: object, value: ImageSource | None) -> None: ...
