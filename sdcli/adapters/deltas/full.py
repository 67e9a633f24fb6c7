"""Full: the difference itself, of a layer or of a norm."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def full(tensors: Mapping[str, Tensor], base: Tensor) -> Tensor:
    """`diff`, or `w_norm` of a norm layer; zeros if only the bias is changed."""
    found = next((tensors[name] for name in ("diff", "w_norm") if name in tensors), None)
    return torch.zeros_like(base, dtype=torch.float32) if found is None else found.reshape(base.shape).clone()
