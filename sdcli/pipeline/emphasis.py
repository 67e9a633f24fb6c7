"""Emphasis: how the weights of a prompt's tokens act on what the text encoder computes of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sdcli.errors import UsageError

Empty = Callable[[], Tensor]
"""Makes the states of the empty prompt, (1, 77, width)."""


def apply(name: str, z: Tensor, weights: Tensor, empty: Tensor | Empty) -> Tensor:
    """A text encoder's states z (chunks, 77, width), each chunk weighted by itself by the formula of this name.

    `weights` (chunks, 77) are those of the tokens; `empty` is only called by a formula that needs it. A chunk whose
    weights are all 1 keeps its bits. Raises UsageError if finite states become infinite or NaN.
    """
    is_weighted = (weights != 1).any(-1).tolist()
    if name == "none" or not any(is_weighted):
        return z
    weights = weights.to(z)[..., None]
    make_empty = empty if callable(empty) else lambda: empty
    weighted = torch.cat([
        FORMULAS[name](z[i : i + 1], weights[i : i + 1], make_empty) if changes else z[i : i + 1]
        for i, changes in enumerate(is_weighted)
    ])  # fmt: skip
    if z.isfinite().all() and not weighted.isfinite().all():
        advice = ", or --emphasis no_norm" if name == "a1111" else ""
        raise UsageError(
            f"--emphasis {name}: the weights of the prompt make it infinite or NaN; take weights nearer to 1{advice}"
        )
    return weighted


def _no_norm(z: Tensor, weights: Tensor, empty: Empty) -> Tensor:
    return z * weights


def _a1111(z: Tensor, weights: Tensor, empty: Empty) -> Tensor:
    weighted = z * weights
    return weighted * (z.mean() / weighted.mean())


def _comfyui(z: Tensor, weights: Tensor, empty: Empty) -> Tensor:
    base = empty()
    return torch.where(weights == 1, z, (z - base) * weights + base)


FORMULAS: dict[str, Callable[[Tensor, Tensor, Empty], Tensor]] = {
    "a1111": _a1111,  # w z, scaled so that the mean over the chunk is again that of z
    "no_norm": _no_norm,  # w z
    "comfyui": _comfyui,  # e + w (z - e), where e is the same row of the empty prompt
}
"""(z (1, 77, width), weights (1, 77, 1), empty) -> the weighted states of one chunk; `none` is z itself."""
