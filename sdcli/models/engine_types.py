"""Engine types: what an engine is given, and what it gives. An engine runs the networks that cost the time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from sdcli.models.device import Placement

TensorFunction = Callable[[list[Tensor]], Tensor]
"""The values of a network's arguments, in their order -> its output, both in the dtype of the placement."""


@dataclass(frozen=True, eq=False)
class EngineNetwork:
    """A network that an engine is to run: the `unet`, or the `vae_decoder`.

    `config_key` is the sha256 of its settings and its source text, `weights_key()` that of its weights too. Latents
    whose sides are multiples of `multiple` take the same path through it; `factor` are pixels per latent on each side.
    `load` loads its weights in a dtype.
    """

    name: str
    model: str  # as the user names it
    config_key: str
    weights_key: Callable[[], str]
    multiple: int
    factor: int
    placement: Placement
    load: Callable[[torch.dtype], nn.Module]


class Engine(Protocol):
    """Runs networks in a way of its own. Each folder of results is below `folder`, which the engine may fill."""

    def versions(self) -> Mapping[str, str]:
        """Package -> version, for a picture's metadata; raises UsageError if one is not installed."""
        ...

    def check(self, network: EngineNetwork, size: tuple[int, int], folder: Path) -> None:
        """Raise UsageError if it cannot run the network on latents of this size (h, w)."""
        ...

    def function(
        self, network: EngineNetwork, arguments: Mapping[str, Tensor], folder: Path
    ) -> TensorFunction:
        """The network as a function of arguments with just these names and shapes."""
        ...


class Positional(nn.Module):
    """A network as a module of tensors in a fixed order, as converters and compilers want it.

    `names` are those of the arguments behind the first three of a U-Net: x, t and context.
    """

    def __init__(self, network: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, x: Tensor, t: Tensor, context: Tensor, *more: Tensor) -> Tensor:
        """The prediction of a U-Net."""
        out: Tensor = self.network(x, t, context, **dict(zip(self.names, more, strict=True)))
        return out


class PositionalDecoder(nn.Module):
    """The decoder of a VAE as a module that is called."""

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, x: Tensor) -> Tensor:
        """Latents (n, 4, h, w) -> pixels (n, 3, 8h, 8w)."""
        out: Tensor = self.vae.decode(x)  # type: ignore[operator]
        return out


def positional(name: str, network: nn.Module, arguments: Mapping[str, Tensor]) -> nn.Module:
    """The network `name` as a module that takes these arguments in their order."""
    if name == "vae_decoder":
        return PositionalDecoder(network).eval()
    return Positional(network, tuple(arguments)[3:]).eval()
