"""Rename: a tensor is renamed by the longest module path in front of it that a table knows."""

from __future__ import annotations

from collections.abc import Mapping


def rename(name: str, modules: Mapping[str, str]) -> str | None:
    """`name` with its longest module path that `modules` knows replaced; None if it knows none.

    With {"out": "a", "out.0": "b"}, `out.0.weight` becomes `b.weight` and `out.2.weight` becomes `a.2.weight`.
    """
    path, rest = name, ""
    while path not in modules:
        path, dot, last = path.rpartition(".")
        if not path:
            return None
        rest = dot + last + rest
    return modules[path] + rest


def inverted(modules: Mapping[str, str]) -> dict[str, str]:
    """The same table for the other direction."""
    return {new: old for old, new in modules.items()}
