"""Networks: `<lora:name:0.8>` and the like in a prompt, which name networks to add, in A1111's language."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

_NETWORK = re.compile(r"<(\w+):([^>]+)>")


@dataclass(frozen=True)
class Network:
    """`<lora:name:0.8:te=1>`: its kind is `lora`, its args are `name` and `0.8`, and `te` is named `1`."""

    kind: str
    args: tuple[str, ...] = ()
    named: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> str:
        """As it is typed, with the named arguments behind the others."""
        return f"<{':'.join((self.kind, *self.args, *(f'{key}={value}' for key, value in self.named)))}>"


def take_networks(text: str, kinds: Collection[str] = ()) -> tuple[str, tuple[Network, ...]]:
    """The text without its networks, and these in its order. Nothing is left in their places, blanks around them stay.

    An argument with one equals sign is a named one. Those of other `kinds` than these stay in the text; without
    `kinds`, all are taken. What they are told is up to the caller.
    """
    text, end, rest = text.rpartition(
        ">"
    )  # without an end, each < would be looked at up to the end of the text
    networks: list[Network] = []

    def take(match: re.Match[str]) -> str:
        if kinds and match[1] not in kinds:
            return match[0]
        networks.append(_network(match[1], match[2]))
        return ""

    return _NETWORK.sub(take, text + end) + rest, tuple(networks)


def _network(kind: str, items: str) -> Network:
    pairs = [item.split("=") for item in items.split(":")]
    args = tuple("=".join(pair) for pair in pairs if len(pair) != 2)
    return Network(kind, args, tuple((pair[0], pair[1]) for pair in pairs if len(pair) == 2))
