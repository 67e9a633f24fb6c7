"""Full: the whole difference of a weight, as fine-tuning leaves it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def full(tensors: Mapping[str, Tensor], base: Tensor) -> Tensor:
    """`diff`, or nothing if the file changes the bias alone."""
    return tensors["diff"].reshape(base.shape) if "diff" in tensors else torch.zeros_like(base)
