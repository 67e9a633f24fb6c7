"""GLoRA: a low-rank product, and another one that the weight itself is multiplied by. https://arxiv.org/abs/2306.07967"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sdcli.adapters.deltas.scale import scale
from sdcli.adapters.deltas.tucker import tucker
from sdcli.checkpoints.lora_kinds import is_old_glora


def glora(tensors: Mapping[str, Tensor], base: Tensor) -> Tensor:
    """scale · (W a1 a2 + b1 b2), W's product over its input channels.

    a1 [in, r], a2 [r, in], b1 [out, r], b2 [r, in, k, k]; with bm [r, r, k, k], b2 is [r, in].
    LyCORIS 1 has a1 and a2, b1 and b2 the other way round.
    """
    a1, a2, b1, b2 = (tensors[name].flatten(1) for name in ("a1", "a2", "b1", "b2"))
    if is_old_glora(tensors):
        a1, a2, b1, b2 = a2, a1, b2, b1
    factor = scale(tensors)
    a1, b1 = a1 * factor, b1 * factor
    plain = tucker(b1, tensors["bm"], b2) if "bm" in tensors else b1 @ b2
    if base.dim() == 2 or base[0, 0].numel() == 1:
        return torch.addmm(plain, base.flatten(1) @ a1, a2).reshape(base.shape)
    narrow = torch.einsum("oi...,ir->or...", base, a1)
    return plain.reshape(base.shape).add_(torch.einsum("or...,ri->oi...", narrow, a2))
