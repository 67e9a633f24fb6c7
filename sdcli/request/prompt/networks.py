"""Networks: `<lora:name:0.8>` and the like in a prompt, which name networks to add, in A1111's language."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NETWORK = re.compile(r"<(\w+):([^>]+)>")


@dataclass(frozen=True)
class Network:
    """`<lora:name:0.8:te=1>`: its kind is `lora`, its args are `name` and `0.8`, and `te` is named `1`."""

    kind: str
    args: tuple[str, ...] = ()
    named: tuple[tuple[str, str], ...] = ()


def take_networks(text: str) -> tuple[str, tuple[Network, ...]]:
    """The text without its networks, and these in its order. Nothing is left in their places, blanks around them stay.

    An argument with one equals sign is a named one. Of which kinds there are, and what they are told, is up to the
    caller.
    """
    text, end, rest = text.rpartition(
        ">"
    )  # without an end, each < would be looked at up to the end of the text
    networks = tuple(_network(kind, items) for kind, items in _NETWORK.findall(text + end))
    return _NETWORK.sub("", text + end) + rest, networks


def _network(kind: str, items: str) -> Network:
    pairs = [item.split("=") for item in items.split(":")]
    args = tuple("=".join(pair) for pair in pairs if len(pair) != 2)
    return Network(kind, args, tuple((pair[0], pair[1]) for pair in pairs if len(pair) == 2))
