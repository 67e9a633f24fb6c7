"""DoRA: a low-rank change whose columns or rows get a learned length (Liu et al. 2024, "DoRA")."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def dora(tensors: Mapping[str, Tensor], base: Tensor, change: Tensor) -> Tensor:
    """W' - W with V = W + change and W' = magnitude · V / ‖V‖.

    The shape of the magnitude tells the axis of the norm: [1, in, …] is one length for each input channel, over the
    outputs and the kernel; any other one for each output, as peft's is always.
    """
    changed = base + change
    per_input = "dora_scale" in tensors and _is_per_input(tensors["dora_scale"], base)
    kept = 1 if per_input else 0
    axes = [axis for axis in range(base.dim()) if axis != kept]
    lengths = changed.square().sum(axes, keepdim=True).sqrt()
    magnitude = tensors["dora_scale" if "dora_scale" in tensors else "magnitude"].reshape(lengths.shape)
    return magnitude / lengths * changed - base


def _is_per_input(magnitude: Tensor, base: Tensor) -> bool:
    return magnitude.dim() > 1 and magnitude.shape[0] == 1 and magnitude.shape[1] == base.shape[1]
