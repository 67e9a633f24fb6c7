"""Branch: a change of a module's weight computed beside the module, as what it adds to the module's answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdcli.adapters import deltas
from sdcli.adapters.deltas.uses import Use, delta_of
from sdcli.checkpoints import lora_kinds


def branch(layer: Any, use: Use, tensors: Mapping[str, Tensor], base: Tensor) -> Callable[[Tensor], Tensor]:
    """strength * what the change adds to the layer's answer."""
    dtype = layer.weight.dtype
    if lora_kinds.has_low_rank_form(use.change.kind, tensors) and "mid" not in tensors:
        narrow, wide, _, factor = deltas.low_rank(tensors, layer.weight.shape)
        down, up = narrow.to(dtype), (wide * (factor * use.strength)).to(dtype)
        widen = F.conv2d if isinstance(layer, nn.Conv2d) else F.linear
        return lambda x: widen(answer(layer, down, None, x), up)
    bias = deltas.bias_delta(tensors)
    own_bias = None if bias is None else (bias * use.strength).to(dtype)
    weight = (delta_of(use, tensors, base) * use.strength).to(dtype)
    return lambda x: answer(layer, weight, own_bias, x)


def answer(layer: Any, weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """The layer's answer with another weight and bias; of a convolution, with its stride and padding."""
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight, bias)
    if isinstance(layer, nn.Conv2d):
        out: Tensor = layer._conv_forward(x, weight, bias)
        return out
    bias = torch.zeros_like(weight) if bias is None else bias
    if isinstance(layer, nn.LayerNorm):
        return F.layer_norm(x, layer.normalized_shape, weight, bias, layer.eps)
    assert isinstance(layer, nn.GroupNorm)
    return F.group_norm(x, layer.num_groups, weight, bias, layer.eps)
