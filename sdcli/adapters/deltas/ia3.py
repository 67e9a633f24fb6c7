"""(IA)³: a factor for each output, or for each input. https://arxiv.org/abs/2205.05638"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sdcli.adapters.deltas.scale import number
from sdcli.errors import ModelError


def ia3(tensors: Mapping[str, Tensor], base: Tensor) -> Tensor:
    """W[o, i] · weight[o], or W[o, i] · weight[i] if on_input is 1: weight is what the factor is above 1."""
    factors = tensors["weight"].flatten()
    axis = int(number(tensors, "on_input", 0) != 0)
    if len(factors) != base.shape[axis]:
        raise ModelError(
            f"weight has {len(factors)} factors for {base.shape[axis]} {('outputs', 'inputs')[axis]}; "
            "is it for another model?"
        )
    return base * factors.reshape([-1 if i == axis else 1 for i in range(base.dim())])
