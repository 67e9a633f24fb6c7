"""T2I-Adapter: a small network whose features of a picture, the hint, are added to a U-Net on its way down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class T2IAdapter(nn.Module):
    """T2I-Adapter (Mou et al. 2023, "Learning Adapters to Dig out More Controllable Ability …").

    `settings`: `channels`, the widths of its stages; `hint_channels`, 3, or 1 for sketches and edges; `shrink`, the
    pixels of a side that become one of its inputs; `halves`, the stages that begin by halving the size; `light`, for
    the smaller kind, whose stages are a quarter as wide inside and whose second convolutions are 3x3; `blocks`, the
    residual blocks of a stage. It does not depend on the noise level or on the text.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        channels, light = list(settings["channels"]), bool(settings["light"])
        self.shrink = int(settings["shrink"])
        self.hint_channels = int(settings["hint_channels"])
        width = self.hint_channels * self.shrink**2
        if not light:
            self.conv_in = nn.Conv2d(width, channels[0], 3, padding=1)
            width = channels[0]
        self.body = nn.ModuleList()
        for i, outputs in enumerate(channels):
            self.body.append(_Stage(width, outputs, settings["blocks"], i in settings["halves"], light))
            width = outputs

    def forward(self, hint: Tensor) -> list[Tensor]:
        """The features of each stage for a hint (1, hint_channels, h, w) in 0 … 1."""
        x = F.pixel_unshuffle(hint, self.shrink)
        x = self.conv_in(x) if hasattr(self, "conv_in") else x
        features = []
        for stage in self.body:
            x = stage(x)
            features.append(x)
        return features


class _Stage(nn.Module):
    def __init__(self, inputs: int, outputs: int, blocks: int, halves: bool, light: bool) -> None:
        super().__init__()
        self.halves = halves
        inner = outputs // 4 if light else outputs
        if light or inputs != outputs:
            self.in_conv = nn.Conv2d(inputs, inner, 1)
        self.resnets = nn.ModuleList([_ResnetBlock(inner, 3 if light else 1) for _ in range(blocks)])
        if light:
            self.out_conv = nn.Conv2d(inner, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.halves:
            x = F.avg_pool2d(x, 2, 2, ceil_mode=True)
        x = self.in_conv(x) if hasattr(self, "in_conv") else x
        for resnet in self.resnets:
            x = resnet(x)
        return self.out_conv(x) if hasattr(self, "out_conv") else x


class _ResnetBlock(nn.Module):
    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.block1 = nn.Conv2d(width, width, 3, padding=1)
        self.block2 = nn.Conv2d(width, width, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.block2(F.relu(self.block1(x)))
        return out
