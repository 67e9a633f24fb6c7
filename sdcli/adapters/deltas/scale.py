"""Scale: what a low-rank change is multiplied with."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def scale(tensors: Mapping[str, Tensor], rank: int) -> float:
    """alpha / rank, 1 without an alpha, or what `scale` says; times LyCORIS' `scalar`, where a file still has it."""
    own = float(tensors["scale"]) if "scale" in tensors else float(tensors.get("alpha", rank)) / rank
    return own * float(tensors.get("scalar", 1.0))
