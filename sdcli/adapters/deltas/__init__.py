"""Deltas: what a LoRA-like file adds to the weight of a module, at strength 1; a file for each kind of change.

All are in float32 and take the tensors by their suffixes (see checkpoints/lora_kinds.py) and the weight W, (outputs,
inputs) or (outputs, inputs, rows, columns). They return W' - W in the shape of W, so that strength m gives
W + m (W' - W): nothing at 0, whatever the kind.
"""

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
from sdcli.adapters.deltas.lora import lora
from sdcli.adapters.deltas.norm import norm
from sdcli.adapters.deltas.oft import oft, oft_diag, oft_input
from sdcli.adapters.deltas.scale import scale

Delta = Callable[[Mapping[str, Tensor], Tensor], Tensor]
"""(tensors by suffix, W) -> W' - W."""

DELTAS: Mapping[str, Delta] = {
    "lora": lora,
    "loha": loha,
    "lokr": lokr,
    "ia3": ia3,
    "full": full,
    "norm": norm,
    "glora": glora,
    "oft": oft,
    "oft_diag": oft_diag,
    "oft_input": oft_input,
    "boft": boft,
}


def delta(kind: str, tensors: Mapping[str, Tensor], base: Tensor) -> Tensor:
    """W' - W in float32 of a change of this kind; a DoRA if the tensors have a magnitude."""
    change = DELTAS[kind](tensors, base)
    return dora(tensors, base, change) if {"dora_scale", "magnitude"} & tensors.keys() else change


def bias_delta(tensors: Mapping[str, Tensor]) -> Tensor | None:
    """What is added to the bias; None for nothing."""
    return tensors.get("diff_b", tensors.get("b_norm"))


def low_rank(kind: str, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
    """(down (rank, inputs), s · up (outputs, rank)) of a plain LoRA, whose product is W' - W; None for other kinds."""
    if kind != "lora" or {"mid", "dora_scale", "magnitude"} & tensors.keys():
        return None
    up, down = tensors["up"].flatten(1), tensors["down"].flatten(1)
    return down, up * scale(tensors, down.shape[0])


def first_ranks(tensors: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """A plain LoRA with its first ranks only, at the scale of all of them; other kinds as they are (A1111's `dyn`)."""
    if not {"up", "down"} <= tensors.keys() or "mid" in tensors:
        return dict(tensors)
    kept = {"up": tensors["up"][:, :count], "down": tensors["down"][:count]}
    return {
        **tensors,
        **kept,
        "scale": torch.tensor(scale(tensors, tensors["down"].shape[0])),
        "scalar": torch.ones(()),
    }
