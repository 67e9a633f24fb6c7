"""LoRA: a product of two thin matrices, with a small convolution between them in Tucker form (LoCon).

https://arxiv.org/abs/2106.09685. DyLoRA, LoRA-FA and T-LoRA are saved as plain LoRA.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from sdcli.adapters.deltas.scale import scale
from sdcli.adapters.deltas.tucker import tucker
from sdcli.errors import ModelError


def lora(tensors: Mapping[str, Tensor], base: Tensor) -> Tensor:
    """scale · up · down: up [out, r], down [r, in] or [r, in, k, k]; with mid [r, r, k, k], down is [r, in]."""
    up = tensors["up"].flatten(1) * scale(tensors)
    down = tensors["down"].flatten(1)
    product = tucker(up, tensors["mid"], down) if "mid" in tensors else up @ down
    if "bias_values" in tensors:
        _add_sparse_bias(product, tensors)
    return product.reshape(base.shape)


def low_rank(
    tensors: Mapping[str, Tensor], base: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor | None, float]:
    """(down, up, mid or None, scale) of a plain LoRA, as the small layers that it was trained as.

    x becomes W x + scale · up(mid(down(x))), each with as many axes as the base weight of this shape. Of a convolution,
    the first one with a kernel (mid, or else down) has the base's stride and padding.
    """
    kernel = (1,) * (len(base) - 2)
    own = tuple(base[2:])
    up, down, mid = tensors["up"], tensors["down"], tensors.get("mid")
    wide = up.reshape(*up.shape[:2], *kernel)
    if mid is not None:
        mid = mid.reshape(*mid.shape[:2], *own)
    narrow = down.reshape(down.shape[0], base[1], *(own if mid is None else kernel))
    return narrow, wide, mid, scale(tensors)


def _add_sparse_bias(product: Tensor, tensors: Mapping[str, Tensor]) -> None:
    """Add LyCORIS' sparse bias, which is scaled like the rest: values [n] at indices [2, n] of a matrix bias_size."""
    size = [int(length) for length in tensors["bias_size"].tolist()]
    rows, columns = tensors["bias_indices"].long().unbind()
    fits = math.prod(size) == product.numel() and min(size) > 0
    if not fits or min(rows.min(), columns.min()) < 0 or rows.max() >= size[0] or columns.max() >= size[1]:
        raise ModelError("its sparse bias does not fit the weight; is it for another model?")
    values = tensors["bias_values"] * scale(tensors)
    product.view(-1).index_add_(0, rows * size[1] + columns, values.to(torch.float32))
