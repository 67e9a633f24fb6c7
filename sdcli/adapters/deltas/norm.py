"""Norm: the difference of a norm's weight."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def norm(tensors: Mapping[str, Tensor], base: Tensor) -> Tensor:
    """`w_norm`, or nothing if the file changes the bias alone."""
    return tensors["w_norm"].reshape(base.shape) if "w_norm" in tensors else torch.zeros_like(base)
