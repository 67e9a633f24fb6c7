"""Seamless: convolutions that go round the edge, so that what is drawn tiles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from sdcli.models.model import Model


@contextmanager
def seamless(model: Model, way: str) -> Iterator[None]:
    """While inside, U-Net and VAE see the left edge beyond the right (x), the top beyond the bottom (y), or both."""
    round_x, round_y = way in ("x", "both"), way in ("y", "both")
    nets = [model.nets.nets[part] for part in ("unet", "vae")]  # whether in memory or not
    changed = [
        conv for net in nets for conv in net.modules() if isinstance(conv, nn.Conv2d) and any(conv.padding)
    ]
    if not (round_x or round_y):
        changed = []
    try:
        for conv in changed:
            conv._conv_forward = _around(conv, round_x, round_y)  # type: ignore[method-assign]
        yield
    finally:
        for conv in changed:
            del conv._conv_forward


def _around(conv: nn.Conv2d, round_x: bool, round_y: bool) -> Any:
    down, right = (int(side) for side in conv.padding)

    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        x = F.pad(x, (right, right, 0, 0), mode="circular" if round_x else "constant")
        x = F.pad(x, (0, 0, down, down), mode="circular" if round_y else "constant")
        return F.conv2d(x, weight, bias, conv.stride, 0, conv.dilation, conv.groups)

    return forward
