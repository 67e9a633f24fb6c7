"""DoRA: a low-rank change gives the direction of each row or column, and a magnitude its length.

https://arxiv.org/abs/2402.09353, equation 5.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def dora(tensors: Mapping[str, Tensor], base: Tensor, change: Tensor) -> Tensor:
    """magnitude · V / ‖V‖ − W, where V = W + change.

    The norm is that of each output where the magnitude is [out, 1, …], as peft and today's LyCORIS train, and that of
    each input channel where it is [1, in, …]. peft's `magnitude` is always one per output, whatever its shape.
    """
    turned = base + change
    lengths, axis = _lengths(tensors, base)
    each = [-1 if i == axis else 1 for i in range(base.dim())]  # one number per output or input, as a shape
    norm = _norms(turned, axis).reshape(each)
    stretch = torch.where(norm > 0, lengths.reshape(each) / norm, 1.0) - 1
    return turned.mul_(stretch.to(base.dtype)).add_(change)


def _lengths(tensors: Mapping[str, Tensor], base: Tensor) -> tuple[Tensor, int]:
    """(magnitudes, the axis of the weight that they are for)."""
    if "magnitude" in tensors:
        return tensors["magnitude"].double(), 0
    scale = tensors["dora_scale"].double()
    return scale, int(scale.dim() > 1 and scale.shape[0] == 1 and base.shape[0] != 1)


def _norms(weight: Tensor, axis: int) -> Tensor:
    """The norm of each output (axis 0) or input (1), in float64; over the kernel first, which is faster."""
    matrix = weight if weight.dim() == 2 else torch.linalg.vector_norm(weight.flatten(2), dim=2)
    norms: Tensor = torch.linalg.vector_norm(matrix, dim=1 - axis, dtype=torch.float64)
    return norms
