"""(IA)^3: a factor for each output or input (Liu et al. 2022, "Few-Shot Parameter-Efficient Fine-Tuning")."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def ia3(tensors: Mapping[str, Tensor], base: Tensor) -> Tensor:
    """W[o, ·] · w[o], or W[·, i] · w[i] if `on_input` is 1."""
    axis = 1 if bool(tensors["on_input"].reshape(-1)[0]) else 0
    sides = [1] * base.dim()
    sides[axis] = base.shape[axis]
    return base * tensors["weight"].reshape(sides)
