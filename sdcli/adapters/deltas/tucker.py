"""Tucker: a convolution's weight as a small core that a matrix widens on each side (CP decomposition)."""

from __future__ import annotations

import torch
from torch import Tensor


def tucker(outputs: Tensor, core: Tensor, inputs: Tensor) -> Tensor:
    """Σ_ab outputs[o, a] · core[a, b, …] · inputs[b, i], as [o, i · k].

    outputs [out, a], core [a, b, k, k], inputs [b, in].
    The inputs come first: the large product is then one matrix multiplication whose result needs no copy.
    """
    widened = torch.einsum("abk,bi->aik", core.reshape(*core.shape[:2], -1), inputs)
    return outputs @ widened.flatten(1)
