"""Packed: linear layers and convolutions that may keep their weights in the order in which a CPU multiplies them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

LARGE = 2**16
"""Values of a weight that is worth packing; by much smaller ones torch multiplies without oneDNN."""


def pack(network: nn.Module) -> None:
    """Let the large layers of a network on a CPU keep packed copies of their weights: twice the memory, less time.

    oneDNN reorders a weight whenever it multiplies by it in bfloat16. Here that is done once, when a layer first runs,
    and again only if its weight was changed; the answers are the same bytes. Layers of other classes than those below,
    and calls that train, stay as they are.
    """
    for layer in network.modules():
        if isinstance(layer, Linear | Conv2d) and layer.weight.dtype == torch.bfloat16:
            layer.packs = layer.weight.numel() >= LARGE and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class _Packs(nn.Module):
    """A layer with a weight, which it may keep a second time."""

    weight: Tensor
    packs = False
    _packed: tuple[tuple[int, int], Tensor] | None = None  # of which weight, and the packed one

    def _uses_packed(self, weight: Tensor) -> bool:
        tells_changes = not weight.is_inference()
        return self.packs and weight is self.weight and tells_changes and not torch.is_grad_enabled()

    def _packed_weight(self, reorder: Callable[[], Tensor]) -> Tensor:
        which = self.weight.data_ptr(), self.weight._version
        if self._packed is None or self._packed[0] != which:
            self._packed = None  # frees it before the next one is made
            self._packed = which, reorder()
        return self._packed[1]


class Linear(nn.Linear, _Packs):
    """torch's linear layer, which may be packed."""

    def forward(self, x: Tensor) -> Tensor:
        """(…, in_features) -> (…, out_features)."""
        if not (self._uses_packed(self.weight) and x.is_contiguous()):
            return super().forward(x)
        ops: Any = torch.ops.mkldnn
        rows = x.numel() // x.shape[-1]
        weight = self._packed_weight(lambda: ops._reorder_linear_weight(self.weight, rows))
        out: Tensor = ops._linear_pointwise(x, weight, self.bias, "none", [], "")
        return out


class Conv2d(nn.Conv2d, _Packs):
    """torch's convolution, which may be packed."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not (self._uses_packed(weight) and weight.is_contiguous(memory_format=torch.channels_last)):
            out: Tensor = super()._conv_forward(x, weight, bias)
            return out
        ops: Any = torch.ops.mkldnn
        how = self.padding, self.stride, self.dilation, self.groups
        own = self._packed_weight(lambda: ops._reorder_convolution_weight(weight, *how, x.shape))
        out = ops._convolution_pointwise(x, own, bias, *how, "none", [], "")
        return out
