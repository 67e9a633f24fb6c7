"""DeepCache: the deep features of the U-Net are computed at every N-th noise level and used again in between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn

from sdcli.diffusion.unet_call import UNetCall
from sdcli.models.architectures.layers import activated
from sdcli.models.architectures.unet import Residuals

FIRST_OF_LAST_BLOCK = 1
"""The residual block of the last up block from which all layers run each time; what comes into it is kept."""


class DeepCache:
    """Reuses deep features (Ma, Fang & Wang 2023, "DeepCache: Accelerating Diffusion Models for Free").

    At every N-th noise level the whole U-Net runs, and what comes from its deep layers is kept for each row. At the
    levels between, only the layers of the highest resolution run: the first ones, and the last ones over what was kept.
    `adapted` is the Adapter, `begin` is told of each run, and `see` of each call of the U-Net.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self._level, self._sigma = -1, -1.0  # number of the noise level in the run, from 0
        self._call: object = None
        self._kept: dict[object, tuple[int, Tensor]] = {}  # rows and window -> level, features

    def begin(self, levels: Sequence[float]) -> None:
        """A run begins: nothing is kept for it yet."""
        self._level, self._sigma, self._kept = -1, -1.0, {}

    def see(self, call: UNetCall) -> None:
        """This is the next call of the U-Net."""
        if call.sigma != self._sigma:
            self._level, self._sigma = self._level + 1, call.sigma
        rows, columns = call.window
        self._call = (tuple(call.conds), rows.start, rows.stop, columns.start, columns.stop)

    @contextmanager
    def adapted(self, part: str, module: nn.Module) -> Iterator[None]:
        """Let the U-Net use its deep features again while inside."""
        if part != "unet" or self.every == 1:
            yield
            return
        block = module.up_blocks[-1].resnets[FIRST_OF_LAST_BLOCK]  # type: ignore[index,union-attr]
        keep = self._keeping(_width_of_features(module))
        hook = block.register_forward_pre_hook(keep, prepend=True)  # before FreeU weighs the features
        whole = module.forward
        module.forward = self._forward(module, whole)
        try:
            yield
        finally:
            del module.forward
            hook.remove()  # what is kept stays: the U-Net may be unloaded and loaded again within a run

    def _keeping(self, width: int) -> Any:
        """A hook that keeps the features that a residual block is given, without the skip connection behind them."""

        def keep(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            if self._is_whole:
                features = inputs[0][:, :width].clone(memory_format=torch.preserve_format)
                self._kept[self._call] = (self._level, features)

        return keep

    @property
    def _is_whole(self) -> bool:
        """True if the call runs all layers: nothing is kept for its rows, or it is of this level or too old."""
        level, _ = self._kept.get(self._call, (self._level, None))
        return not 0 < self._level - level < self.every

    def _forward(self, unet: Any, whole: Any) -> Any:
        """The forward of the U-Net that runs it whole, or its outer layers alone."""

        def forward(x: Tensor, t: Tensor, context: Tensor, **more: Any) -> Tensor:
            if self._is_whole:
                out: Tensor = whole(x, t, context, **more)
                return out
            return outer_layers(unet, self._kept[self._call][1], x, t, context, **more)

        return forward


def outer_layers(
    unet: Any,
    features: Tensor,
    x: Tensor,
    t: Tensor,
    context: Tensor,
    control: Residuals | None = None,
    **conditions: Tensor | None,
) -> Tensor:
    """What a UNet predicts if its deep layers gave these features: (n, out_channels, h, w), as its `forward`."""
    if unet.center_input_sample:
        x = 2 * x - 1.0
    time = unet.embed_time(t, x, context, **conditions)
    down, up = unet.down_blocks[0], unet.up_blocks[-1]
    last = range(FIRST_OF_LAST_BLOCK, len(up.resnets))
    skips = [unet.conv_in(x)]
    for i in range(len(last) - 1):  # the last layer takes the skip connection of conv_in
        skips.append(_layer(down, i, skips[-1], time, context))
    if control is not None and control.down:
        skips = [skip + residual for skip, residual in zip(skips, control.down, strict=False)]
    for i in last:
        features = _layer(up, i, torch.cat([features, skips.pop()], 1), time, context)
    out: Tensor = unet.conv_out(activated(unet.act, unet.conv_norm_out(features)))
    return out


def _layer(block: Any, i: int, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
    """Residual block i of a down or up block, and the transformer behind it if there is one."""
    x = block.resnets[i](x, time)
    if block.attentions:
        x = block.attentions[i](x, repeat(context))
    return x


def _width_of_features(unet: Any) -> int:
    """The channels that the last up block has inside, of its input those before the skip connection."""
    width: int = unet.up_blocks[-1].resnets[0].conv2.out_channels
    return width


def deepcache(every: str) -> DeepCache:
    """The adapter that runs the whole U-Net at every N-th noise level."""
    return DeepCache(int(every))
