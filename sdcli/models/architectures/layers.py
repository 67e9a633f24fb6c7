"""Layers that the U-Net and the autoencoder share: residual blocks, resampling, activations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from sdcli.models.architectures.packed import Conv2d, Linear

Activation = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Activation] = {
    "silu": F.silu,
    "swish": F.silu,
    "mish": F.mish,
    "gelu": F.gelu,
    "relu": F.relu,
}
"""What `act_fn` may say in a config."""


OVERWRITTEN = 2**20
"""Values of a row from which an activation overwrites it; of less, torch may choose another layout: other last bits."""


def activated(act: Activation, x: Tensor) -> Tensor:
    """act(x), for an x that nobody uses afterwards: SiLU overwrites a large one, which spares memory and time."""
    if act is F.silu and math.prod(x.shape[1:]) >= OVERWRITTEN and not x.requires_grad:
        return F.silu(x, inplace=True)
    return act(x)


def per_level(value: Any, levels: int) -> list[Any]:
    """A setting for each level of a network: a list as it is, a single value repeated."""
    values = list(value) if isinstance(value, list | tuple) else [value] * levels
    if len(values) != levels:
        raise ValueError(f"{len(values)} values for {levels} levels")
    return values


class ResnetBlock(nn.Module):
    """Two convolutions with group norms and a shortcut; the time embedding, if there is one, comes in between them.

    It is added, or with `scales` it scales and shifts the second norm (Dhariwal & Nichol 2021, "adaptive group norm").
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        groups: int,
        eps: float,
        act: Activation,
        time_width: int | None = None,
        scales: bool = False,
    ) -> None:
        super().__init__()
        self.act, self.scales = act, scales
        self.norm1 = nn.GroupNorm(groups, inputs, eps)
        self.conv1 = Conv2d(inputs, outputs, 3, padding=1)
        if time_width is not None:
            self.time_emb_proj = Linear(time_width, 2 * outputs if scales else outputs)
        self.norm2 = nn.GroupNorm(groups, outputs, eps)
        self.conv2 = Conv2d(outputs, outputs, 3, padding=1)
        if inputs != outputs:
            self.conv_shortcut = Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """x (n, inputs, h, w), time (n, time_width) -> (n, outputs, h, w)."""
        h: Tensor = self.conv1(activated(self.act, self.norm1(x)))
        time = None if time is None else self.time_emb_proj(self.act(time))[:, :, None, None]
        if time is not None and not self.scales:
            h = h + time
        h = self.norm2(h)
        if time is not None and self.scales:
            scale, shift = time.chunk(2, dim=1)
            h = h * (1 + scale) + shift
        h = self.conv2(activated(self.act, h))
        if hasattr(self, "conv_shortcut"):
            x = self.conv_shortcut(x)
        return x + h


class Downsample(nn.Module):
    """Halves height and width by a convolution of stride 2; padding 0 pads only right and bottom."""

    def __init__(self, channels: int, padding: int) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, stride=2, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, c, h/2, w/2)."""
        if self.conv.padding == (0, 0):
            x = F.pad(x, (0, 1, 0, 1))
        out: Tensor = self.conv(x)
        return out


class Upsample(nn.Module):
    """Doubles height and width by repeating pixels, then convolves."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """(n, c, h, w) -> (n, c, 2h, 2w), or of `size` where a level below it had an odd side."""
        if size is None:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        else:
            x = F.interpolate(x, size=size, mode="nearest")
        out: Tensor = self.conv(x)
        return out
