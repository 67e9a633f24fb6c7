"""Requests: many that share most of their values, the pictures of a count, and a seed for those that name none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sdcli.request.jobfile.shared import MAX_COUNT
from sdcli.request.request import INDEPENDENT, MAX_SEED, Request

Settings = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""The fields that a job states -> those that the user's settings add to them."""


def no_settings(stated: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of a user who has none."""
    return {}


class RequestBuilder:
    """Builds requests that share many values. Where only independent fields change, one that was checked is changed."""

    def __init__(self) -> None:
        self.built: dict[tuple[Any, ...], Request] = {}

    def request(self, values: Mapping[str, Any]) -> Request:
        """The request with these values; raises UsageError."""
        independent = {name: value for name, value in values.items() if name in INDEPENDENT}
        others = (
            (name, tuple(value) if isinstance(value, list) else value)
            for name, value in values.items()
            if name not in INDEPENDENT
        )
        key = (*others, *independent)
        if not _is_hashable(key):  # pixels
            return Request(**values)
        if key not in self.built:
            self.built[key] = Request(**values)
            return self.built[key]
        return self.built[key].replace(**independent)


def _is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def pictures_of(request: Request, count: int) -> Iterator[tuple[dict[str, Any], Request]]:
    """The pictures of a count, each with what tells it from the others: its seed, or its number if that is open."""
    if count == 1:
        yield {}, request
        return
    name = "seed" if request.variation_seed is None else "variation_seed"
    for i in range(count):
        if getattr(request, name) is None:
            yield {"number": i + 1}, request
        else:
            each = request.nth(i)
            yield {name: getattr(each, name)}, each


def seed_of(said: Mapping[str, Any]) -> int:
    """A seed made of what is said, with room behind it for the seeds of a count."""
    text = json.dumps(said, sort_keys=True, ensure_ascii=True, default=str)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) % (MAX_SEED + 1 - MAX_COUNT)
