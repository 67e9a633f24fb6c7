"""BOFT: several stages of rotations, each mixing outputs that are twice as far apart. https://arxiv.org/abs/2311.06243"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sdcli.adapters.deltas.rotation import rescaled, turns


def boft(tensors: Mapping[str, Tensor], base: Tensor) -> Tensor:
    """R_m … R_1 W − W, with the blocks of each stage in `oft_blocks` [m, n, b, b]; then `rescale`, if there is one."""
    weight = base.flatten(1)
    delta = torch.zeros_like(weight)
    for stage, turn in enumerate(turns(tensors, base.shape[0]).to(base.dtype)):
        step = torch.bmm(turn, _gathered(weight + delta, stage, turn))
        delta += _spread(step, stage)
    return rescaled(delta.reshape(base.shape), tensors, base)


def _gathered(weight: Tensor, stage: int, turn: Tensor) -> Tensor:
    """[out, i] as blocks [n, b, i]: a block joins b/2 pairs of outputs that are 2^stage · b/2 apart."""
    blocks, size, _ = turn.shape
    distance = 2**stage * size // 2
    return weight.reshape(-1, 2, distance, weight.shape[1]).transpose(1, 2).reshape(blocks, size, -1)


def _spread(blocks: Tensor, stage: int) -> Tensor:
    """The inverse of `_gathered`."""
    distance = 2**stage * blocks.shape[1] // 2
    return blocks.reshape(-1, distance, 2, blocks.shape[2]).transpose(1, 2).reshape(-1, blocks.shape[2])
