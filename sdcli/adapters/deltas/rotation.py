"""Rotation: orthogonal blocks from skew-symmetric ones, as OFT and BOFT make them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sdcli.adapters.deltas.scale import number


def turns(tensors: Mapping[str, Tensor], outputs: int) -> Tensor:
    """R − I of each block of `oft_blocks` [..., b, b], in float64, with the Cayley transform R = (I + Q)(I − Q)⁻¹.

    Q = B − Bᵀ is scaled down to the norm alpha · outputs, over all blocks together, if it is larger; no alpha, or 0,
    is no limit. R − I is 2 Q (I − Q)⁻¹, which does not cancel.
    """
    blocks = tensors["oft_blocks"].double()
    skew = blocks - blocks.mT
    limit = number(tensors, "alpha", 0.0) * outputs
    norm = float(skew.norm())
    if 0 < limit < norm:
        skew = skew * (limit / norm)
    identity = torch.eye(skew.shape[-1], dtype=skew.dtype, device=skew.device)
    turn: Tensor = torch.linalg.solve(identity - skew, 2 * skew, left=False)
    return turn


def rescaled(delta: Tensor, tensors: Mapping[str, Tensor], base: Tensor) -> Tensor:
    """The delta of rescale · (W + delta), one factor an output, if there is a `rescale`."""
    if "rescale" not in tensors:
        return delta
    factors = tensors["rescale"].reshape(-1, *[1] * (base.dim() - 1))
    return delta.mul_(factors).add_(base * (factors - 1))
