"""BOFT: stages of rotations whose outputs are shuffled as a butterfly (Liu et al. 2023, "Parameter-Efficient
Orthogonal Finetuning via Butterfly Factorization")."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sdcli.adapters.deltas.oft import cayley, constrained, rescaled


def boft(tensors: Mapping[str, Tensor], base: Tensor) -> Tensor:
    """Stage i turns groups of outputs that lie 2^i half blocks apart, each by its R; then `rescale`."""
    turned = base
    for stage, rotations in enumerate(cayley(constrained(tensors, base))):
        half = 2**stage * rotations.shape[-1] // 2
        inputs = base.shape[1:]
        shuffled = turned.reshape(-1, 2, half, *inputs).transpose(1, 2)
        groups = shuffled.reshape(*rotations.shape[:2], *inputs)
        shuffled = torch.einsum("nij,nj...->ni...", rotations, groups)
        turned = shuffled.reshape(-1, half, 2, *inputs).transpose(1, 2).reshape(base.shape)
    return rescaled(tensors, turned) - base
