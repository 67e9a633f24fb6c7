"""Target and Source: one tensor's two names, seen from the file and seen from the network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """Where a tensor of a file goes: the component, the name in its network, and what to take of the tensor.

    `take` is "all", "transpose", or "third 0" to "third 2": one third of the rows of a packed q, k and v.
    """

    part: str
    name: str
    take: str = "all"


@dataclass(frozen=True)
class Source:
    """Where a network's tensor comes from: its key in the file, and what to take of it, as in Target.

    `scale` is the key of the number that it must be multiplied by; empty for one that is stored as it is.
    """

    key: str
    take: str = "all"
    scale: str = ""
