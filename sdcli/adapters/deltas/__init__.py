"""Deltas: by how much the tensors of one module in a LoRA-like file change its weight and bias; one file a kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from sdcli.adapters.deltas.boft import boft
from sdcli.adapters.deltas.dora import dora
from sdcli.adapters.deltas.full import full
from sdcli.adapters.deltas.glora import glora
from sdcli.adapters.deltas.ia3 import ia3
from sdcli.adapters.deltas.loha import loha
from sdcli.adapters.deltas.lokr import lokr
from sdcli.adapters.deltas.lora import lora, low_rank
from sdcli.adapters.deltas.oft import oft, oft_diag
from sdcli.adapters.deltas.oft_inputs import oft_inputs
from sdcli.checkpoints.lora_kinds import Kind, reads_weight

__all__ = ["bias_delta", "delta", "low_rank"]

DELTAS: dict[Kind, Callable[[Mapping[str, Tensor], Tensor], Tensor]] = {
    "lora": lora,
    "loha": loha,
    "lokr": lokr,
    "glora": glora,
    "ia3": ia3,
    "full": full,
    "norm": full,
    "oft": oft,
    "boft": boft,
    "oft_diag": oft_diag,
    "oft_inputs": oft_inputs,
}


def delta(kind: Kind, tensors: Mapping[str, Tensor], base: Tensor) -> Tensor:
    """W' − W at strength 1, in float32, in the shape and on the device of the base weight W.

    The tensors, by canonical suffix, have passed `lora_kinds.check`. Other strengths m are W + m (W' − W) in all kinds.
    alpha is not used in kinds without a rank. Raises ModelError, with the reason alone, if values that a header does
    not show do not fit the weight (`on_input`, `bias_indices`).
    """
    weight = base.to(torch.float32) if reads_weight(kind, tensors) else base
    tensors = {name: _as_float32(tensor, weight) for name, tensor in tensors.items()}
    change = DELTAS[kind](tensors, weight)
    return dora(tensors, weight, change) if tensors.keys() & {"dora_scale", "magnitude"} else change


def bias_delta(tensors: Mapping[str, Tensor]) -> Tensor | None:
    """The bias's change at strength 1, in float32, of any kind; None if the bias stays as it is."""
    found = next((tensors[name] for name in ("diff_b", "b_norm") if name in tensors), None)
    return None if found is None else found.to(torch.float32).flatten()


def _as_float32(tensor: Tensor, base: Tensor) -> Tensor:
    return tensor.to(base.device, torch.float32 if tensor.is_floating_point() else tensor.dtype)
