"""LoKr: the Kronecker product of two factors, each whole or a low-rank product. https://arxiv.org/abs/2212.10650"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sdcli.adapters.deltas.scale import scale
from sdcli.adapters.deltas.tucker import tucker


def lokr(tensors: Mapping[str, Tensor], base: Tensor) -> Tensor:
    """scale · w1 ⊗ w2: w1 [a, b], w2 [out / a, in / b, k, k].

    If both are whole, there is no rank, and the scale is 1.
    """
    first = tensors["lokr_w1"] if "lokr_w1" in tensors else tensors["lokr_w1_a"] @ tensors["lokr_w1_b"]
    first = first.flatten(1) * scale(tensors)
    second = _second(tensors)  # [out / a, in / b · k · k]
    return (first[:, None, :, None] * second[None, :, None, :]).reshape(base.shape)


def _second(tensors: Mapping[str, Tensor]) -> Tensor:
    if "lokr_w2" in tensors:
        return tensors["lokr_w2"].flatten(1)
    a, b = tensors["lokr_w2_a"].flatten(1), tensors["lokr_w2_b"].flatten(1)
    return tucker(a.T, tensors["lokr_t2"], b) if "lokr_t2" in tensors else a @ b
