"""Scale: the number that a low-rank change is multiplied by, alpha / rank."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sdcli.checkpoints.lora_kinds import rank


def scale(tensors: Mapping[str, Tensor]) -> float:
    """alpha / rank, of each module on its own; 1 where the file has no alpha, or the kind no rank.

    A number called `scale` replaces alpha / rank. LyCORIS' `scalar`, of files saved in the middle of training, is a
    further factor.
    """
    scalar = number(tensors, "scalar", 1.0)
    if "scale" in tensors:
        return number(tensors, "scale", 1.0) * scalar
    size = rank(tensors)
    return scalar * (number(tensors, "alpha", size) / size if size else 1.0)


def number(tensors: Mapping[str, Tensor], name: str, missing: float) -> float:
    """A tensor of one value as a number; `missing` if it is not there."""
    return float(tensors[name].item()) if name in tensors else missing
