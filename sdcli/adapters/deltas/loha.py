"""LoHa: the element-wise product of two low-rank matrices (Hyeon-Woo et al. 2021, "FedPara")."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sdcli.adapters.deltas.scale import scale


def loha(tensors: Mapping[str, Tensor], base: Tensor) -> Tensor:
    """s · (w1_a · w1_b) ∘ (w2_a · w2_b); with cores t1 and t2, each factor is t · a · b along the first two axes."""
    s = scale(tensors, tensors["hada_w1_b"].shape[0])
    return (_factor(tensors, 1) * _factor(tensors, 2)).reshape(base.shape) * s


def _factor(tensors: Mapping[str, Tensor], number: int) -> Tensor:
    a, b = tensors[f"hada_w{number}_a"], tensors[f"hada_w{number}_b"]
    if f"hada_t{number}" in tensors:
        return torch.einsum("ijkl,io,jp->opkl", tensors[f"hada_t{number}"], a, b)
    return a.flatten(1) @ b.flatten(1)
