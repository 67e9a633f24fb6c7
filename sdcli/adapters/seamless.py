"""Seamless: convolutions that wrap around the edges, so that the picture tiles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from sdcli.models.offload import Adapter


def seamless(direction: str) -> Adapter:
    """Textures that repeat without seams: the left edge borders the right (x), the top the bottom (y), or both.

    Every padded convolution of the U-Net and the VAE pads with the opposite edge in place of zeros.
    """
    wrap_x, wrap_y = direction in ("x", "both"), direction in ("y", "both")

    @contextmanager
    def adapted(part: str, module: nn.Module) -> Iterator[None]:
        padded = [each for each in module.modules() if isinstance(each, nn.Conv2d) and any(each.padding)]
        convolutions = padded if part in ("unet", "vae") else []
        try:
            for conv in convolutions:
                conv._conv_forward = _wrapping(conv, wrap_x, wrap_y)  # type: ignore[method-assign]
            yield
        finally:
            for conv in convolutions:
                vars(conv).pop("_conv_forward", None)

    return adapted


def _wrapping(conv: nn.Conv2d, wrap_x: bool, wrap_y: bool) -> Any:
    """The convolution's forward, with circular padding in the wrapped directions."""
    vertical, horizontal = (int(side) for side in conv.padding)

    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        x = F.pad(x, (horizontal, horizontal, 0, 0), mode="circular" if wrap_x else "constant")
        x = F.pad(x, (0, 0, vertical, vertical), mode="circular" if wrap_y else "constant")
        return F.conv2d(x, weight, bias, conv.stride, 0, conv.dilation, conv.groups)

    return forward
