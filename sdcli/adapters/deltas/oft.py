"""OFT: rotations of blocks of outputs (LyCORIS' diag-oft, kohya). https://arxiv.org/abs/2306.07280"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sdcli.adapters.deltas.rotation import rescaled, turns


def oft(tensors: Mapping[str, Tensor], base: Tensor) -> Tensor:
    """(Rᵀ − I) W for each block of b outputs, R from `oft_blocks` [n, b, b]; then `rescale`, if there is one."""
    return _turned(turns(tensors, base.shape[0]), tensors, base)


def oft_diag(tensors: Mapping[str, Tensor], base: Tensor) -> Tensor:
    """The same for old LyCORIS, whose `oft_diag` [n, b, b] is R; alpha is not used."""
    blocks = tensors["oft_diag"].double()
    return _turned(blocks - torch.eye(blocks.shape[-1], device=blocks.device), tensors, base)


def _turned(turn: Tensor, tensors: Mapping[str, Tensor], base: Tensor) -> Tensor:
    blocks = base.reshape(*turn.shape[:2], -1)  # [n, b, in · k · k]
    return rescaled(torch.bmm(turn.mT.to(base.dtype), blocks).reshape(base.shape), tensors, base)
