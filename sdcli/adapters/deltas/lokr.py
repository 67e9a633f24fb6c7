"""LoKr: the Kronecker product of two matrices (Yeh et al. 2023, "Navigating Text-To-Image Customization")."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sdcli.adapters.deltas.scale import scale


def lokr(tensors: Mapping[str, Tensor], base: Tensor) -> Tensor:
    """s · w1 ⊗ w2, each of them whole or w_a · w_b; where both are whole, alpha says nothing and s is 1."""
    w1, w2 = _factor(tensors, 1), _factor(tensors, 2)
    rows, columns = base.shape[0] // w1.shape[0], base.shape[1] // w1.shape[1]
    w2 = w2.reshape(rows, columns, *base.shape[2:])
    product = torch.kron(w1.reshape(*w1.shape[:2], *[1] * (base.dim() - 2)).contiguous(), w2.contiguous())
    rank = next((tensors[name].shape[0] for name in ("lokr_w2_b", "lokr_w1_b") if name in tensors), 0)
    return product.reshape(base.shape) * (scale(tensors, rank) if rank else 1.0)


def _factor(tensors: Mapping[str, Tensor], number: int) -> Tensor:
    if f"lokr_w{number}" in tensors:
        return tensors[f"lokr_w{number}"]
    a, b = tensors[f"lokr_w{number}_a"], tensors[f"lokr_w{number}_b"]
    if number == 2 and "lokr_t2" in tensors:
        return torch.einsum("ijkl,io,jp->opkl", tensors["lokr_t2"], a, b)
    return a @ b.flatten(1)
