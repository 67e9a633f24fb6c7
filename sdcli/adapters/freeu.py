"""FreeU: the decoder of a U-Net weighs its own features more and the low frequencies of its skip connections less."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sdcli.models.offload import Adapter

Stage = tuple[float, float]
"""The factor b of the features, and s of the skip connection's lowest frequencies."""


def freeu(stages: Sequence[Stage], by: str = "width", version: int = 1) -> Adapter:
    """FreeU (Si et al. 2023, "FreeU: Free Lunch in Diffusion U-Net", equations 3 to 6), in two stages.

    By width, the first stage is where the features are four times as wide as at the U-Net's input, the second where
    they are twice as wide; by block, they are the first and the second up block. Version 2 is the paper's second, in
    which features count by their mean over the channels.
    """

    @contextmanager
    def adapted(part: str, module: nn.Module) -> Iterator[None]:
        hooks = []
        try:
            for resnet, width, stage in _places(module, by) if part == "unet" else ():
                hooks.append(resnet.register_forward_pre_hook(_weighing(width, *stages[stage], version)))
            yield
        finally:
            for hook in hooks:
                hook.remove()

    return adapted


def _places(unet: Any, by: str) -> Iterator[tuple[nn.Module, int, int]]:
    """The residual blocks of the decoder that a stage is for: (block, width of the features, stage)."""
    first: int = unet.conv_in.out_channels
    width: int = unet.mid_block.resnets[-1].conv2.out_channels
    for number, block in enumerate(unet.up_blocks):
        for resnet in block.resnets:
            stage = (
                {4 * first: 0, 2 * first: 1}.get(width) if by == "width" else number if number < 2 else None
            )
            if stage is not None:
                yield resnet, width, stage
            width = resnet.conv2.out_channels


def _weighing(width: int, b: float, s: float, version: int) -> Any:
    """A hook that weighs what a residual block is given: features, and behind them the skip connection."""

    def weigh(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        x: Tensor = inputs[0]
        joined = torch.cat([weighed_features(x[:, :width], b, version), weighed_skip(x[:, width:], s)], 1)
        return (joined, *inputs[1:])

    return weigh


def weighed_features(h: Tensor, b: float, version: int = 1) -> Tensor:
    """Features (n, channels, h, w) whose first half of the channels is multiplied by b."""
    factor: float | Tensor = b
    if version == 2:
        mean = h.mean(1, keepdim=True)
        low, high = mean.amin((2, 3), keepdim=True), mean.amax((2, 3), keepdim=True)
        factor = (b - 1) * (mean - low) / (high - low).clamp(min=1e-12) + 1
    half = h.shape[1] // 2
    return torch.cat([h[:, :half] * factor, h[:, half:]], 1)


def weighed_skip(skip: Tensor, s: float) -> Tensor:
    """A skip connection (n, channels, h, w) whose frequencies -1 and 0 along both sides are multiplied by s."""
    spectrum = torch.fft.fft2(skip.float())
    for row in (-1, 0):
        for column in (-1, 0):
            if -row < skip.shape[2] and -column < skip.shape[3]:
                spectrum[..., row, column] *= s
    out: Tensor = torch.fft.ifft2(spectrum).real.to(skip.dtype)
    return out
