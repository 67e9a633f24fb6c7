"""Sent: the fields of a body, each of which is taken once, with the types that A1111 reads them as."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from sdcli.errors import UsageError

MAX_WHOLE = 2**64


class Sent:
    """The fields of a body that are not taken yet. null is the same as a field that is not there.

    Numbers may be written as texts. All methods raise UsageError, which names the field, for another type.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.left = {name: value for name, value in values.items() if value is not None}

    def take(self, name: str) -> Any:
        """The value as it was sent; None if it was not."""
        return self.left.pop(name, None)

    def text(self, name: str) -> str | None:
        """A text."""
        value = self.take(name)
        if value is not None and not isinstance(value, str):
            raise UsageError(f"{name}: {value!r:.80} is no text")
        return value

    def number(self, name: str) -> float | None:
        """A finite number."""
        value = self.take(name)
        if value is None:
            return None
        try:
            found = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            found = math.nan
        if not math.isfinite(found):
            raise UsageError(f"{name}: {value!r:.80} is no number")
        return found

    def whole(self, name: str) -> int | None:
        """A whole number."""
        value = self.left.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            if abs(value) > MAX_WHOLE:
                raise UsageError(f"{name}: is larger than {MAX_WHOLE}")
            return int(self.take(name))
        found = self.number(name)
        if found is not None and (found != int(found) or abs(found) > MAX_WHOLE):
            raise UsageError(f"{name}: {value!r:.80} is no whole number")
        return None if found is None else int(found)

    def truth(self, name: str, default: bool = False) -> bool:
        """true or false, which may be written as 1 or 0."""
        value = self.take(name)
        if value is None:
            return default
        if value not in (True, False):
            raise UsageError(f"{name}: {value!r:.80} is not true or false")
        return bool(value)

    def texts(self, name: str) -> list[str]:
        """A list of texts; empty if it was not sent."""
        value = self.take(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise UsageError(f"{name}: is no list of texts")
        return value

    def table(self, name: str) -> Mapping[str, Any]:
        """An object; empty if it was not sent."""
        value = self.take(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise UsageError(f"{name}: is no object")
        return value

    def drop(self, names: Iterable[str]) -> None:
        """Take fields that change nothing."""
        for name in names:
            self.take(name)

    def only(self, name: str, allowed: Iterable[object], advice: str = "leave it out") -> None:
        """Take a field of which only these values, which change nothing, are understood."""
        value = self.take(name)
        if value is not None and value not in tuple(allowed):
            raise UsageError(f"{name}: {value!r:.80} would change the picture and is not done here; {advice}")
