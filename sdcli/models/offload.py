"""Networks: a model's networks, each filled with its weights when it is taken; where memory is short, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from sdcli.errors import OutOfMemory
from sdcli.models import memory
from sdcli.models.device import Placement

BESIDE = 2 * 2**30  # bytes that a step or a decode at 512x512 takes beside the weights of a large network


@dataclass(frozen=True, eq=False)
class Networks(Mapping[str, Any]):
    """Networks by the name of their part. To take one is to fill it, and, if `alone`, to empty all others.

    An empty network is one on the meta device: it has its config and its shapes, but no memory.
    """

    nets: Mapping[str, nn.Module]
    fill: Callable[[str, nn.Module], object]
    alone: bool
    parts: tuple[str, ...]

    def __getitem__(self, part: str) -> Any:
        if part not in self.parts:
            raise KeyError(part)
        net = self.nets[part]
        if _is_empty(net):
            for other in self.nets.values() if self.alone else ():
                other.to("meta")
            self.fill(part, net)
        return net

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def how(self) -> str:
        """How many of them are in memory, as a user may read it."""
        return "one at a time" if self.alone else "all at once"

    def only(self, parts: Collection[str]) -> Networks:
        """The same shelf, of which no more is seen than these parts."""
        return replace(self, parts=tuple(part for part in parts if part in self.nets))


def shelf(
    name: str, nets: Mapping[str, nn.Module], fill: Callable[[str, nn.Module], object], place: Placement
) -> Networks:
    """The shelf of a model's empty networks: all filled at once, if the memory that is free now will hold them.

    Raises OutOfMemory if it does not hold the largest of them.
    """
    sizes = {part: _parameters(net) * place.dtype.itemsize for part, net in nets.items()}
    part, largest = max(sizes.items(), key=lambda item: item[1])
    free, need = memory.free(place.device), sum(sizes.values())
    if largest > free + (memory.swap() if place.device.type == "cpu" else 0):
        what = f"its {part.replace('_', ' ')} takes {largest / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free"
        advice = "--dtype bfloat16 takes half" if place.dtype == torch.float32 else "choose a smaller model"
        raise OutOfMemory(f"{name}: {what}; {advice}")
    made = Networks(nets, fill, free < need + min(need, BESIDE), tuple(nets))
    if not made.alone:
        dict(made)  # takes each
    return made


def _parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def _is_empty(net: nn.Module) -> bool:
    return any(p.is_meta for p in net.parameters())
