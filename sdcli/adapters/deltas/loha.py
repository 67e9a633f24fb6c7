"""LoHa: the Hadamard (elementwise) product of two low-rank products. https://arxiv.org/abs/2108.06098"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sdcli.adapters.deltas.scale import scale
from sdcli.adapters.deltas.tucker import tucker


def loha(tensors: Mapping[str, Tensor], base: Tensor) -> Tensor:
    """scale · (w1_a w1_b) ∘ (w2_a w2_b): w_a [out, r], w_b [r, in · k · k].

    With cores t [r, r, k, k], w_a is [r, out] and w_b [r, in].
    """
    product = _half(tensors, "1", scale(tensors))
    return product.mul_(_half(tensors, "2")).reshape(base.shape)


def _half(tensors: Mapping[str, Tensor], half: str, factor: float = 1.0) -> Tensor:
    """One of the two products, [out, in · k · k], times a factor."""
    a, b = tensors[f"hada_w{half}_a"] * factor, tensors[f"hada_w{half}_b"]
    core = tensors.get(f"hada_t{half}")
    return a.flatten(1) @ b.flatten(1) if core is None else tucker(a.flatten(1).T, core, b.flatten(1))
