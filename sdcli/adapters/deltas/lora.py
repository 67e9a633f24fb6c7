"""LoRA: a product of two narrow matrices (Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models")."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sdcli.adapters.deltas.scale import scale


def lora(tensors: Mapping[str, Tensor], base: Tensor) -> Tensor:
    """s · up · down; with a core `mid` for the kernel of a convolution (CP decomposition), s · up · mid · down."""
    up, down = tensors["up"].flatten(1), tensors["down"].flatten(1)
    s = scale(tensors, down.shape[0])
    if "mid" in tensors:
        return torch.einsum("oa,abkl,bi->oikl", up, tensors["mid"], down) * s
    return ((up * s) @ down).reshape(base.shape)
