"""GLoRA: a low-rank change of the weight's inputs and a LoRA (Chavan et al. 2023, "One-for-All: GLoRA")."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sdcli.adapters.deltas.scale import scale


def glora(tensors: Mapping[str, Tensor], base: Tensor) -> Tensor:
    """s · (W · a1 · a2 + b1 · b2); as LyCORIS 1 stored it, s · ((W · a2) · a1 + b2 · b1)."""
    a1, a2, b1, b2 = (tensors[name].flatten(1) for name in ("a1", "a2", "b1", "b2"))
    inputs = base.shape[1]
    if a1.shape[0] != inputs or a2.shape[1] != inputs:  # the old layout
        a1, a2, b1, b2 = a2, a1, b2, b1
    change = torch.einsum("oi...,ij->oj...", base, a1 @ a2) + (b1 @ b2).reshape(base.shape)
    return change * scale(tensors, a2.shape[0])
