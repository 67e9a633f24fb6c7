"""OFT of OneTrainer and peft: rotations of blocks of inputs, by a short Neumann series."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from sdcli.adapters.deltas.scale import number
from sdcli.checkpoints.lora_kinds import block_size


def oft_inputs(tensors: Mapping[str, Tensor], base: Tensor) -> Tensor:
    """W (Rᵀ − I) for each block of b inputs; of a convolution, W (R − I), for its in · k · k inputs.

    `oft_R` [in / b, b(b − 1)/2] holds the triangles above the diagonals of Q, or [1, b(b − 1)/2] one for all blocks,
    divided by 2√(b − 1) if `scaled_oft`. That convolutions turn the other way is OneTrainer's; peft's do not.
    """
    turn = _turns(tensors)
    turn = turn if base.dim() > 2 else turn.mT
    size = turn.shape[-1]
    weight = base.reshape(base.shape[0], -1, size).transpose(0, 1)  # [in / b, out, b]
    return torch.matmul(weight, turn.to(base.dtype)).transpose(0, 1).reshape(base.shape)


def _turns(tensors: Mapping[str, Tensor]) -> Tensor:
    """R − I = 2Q + 2Q² + 2Q³ + Q⁴ of each block, in float64: the first terms of the Cayley transform of Q."""
    values = tensors["oft_R"].double().flatten(1)
    size = block_size(values.shape[1])
    rows, columns = torch.triu_indices(size, size, 1, device=values.device)
    skew = values.new_zeros(len(values), size, size)
    skew[:, rows, columns] = values
    skew = skew - skew.mT
    if number(tensors, "scaled_oft", 0):
        skew = skew / (2 * math.sqrt(size - 1))
    square = skew @ skew
    return 2 * skew + 2 * square + (2 * skew + square) @ square
