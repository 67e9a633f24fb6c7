"""Losses of a denoised estimate for classifier guidance: (1, 4, h/8, w/8) -> one number, less is better.

Each is scaled so that one whole step against its gradient reaches its minimum (mirror, plain) or is the longest one
that cannot overshoot (smooth).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Loss = Callable[[Tensor], Tensor]


def mirror(denoised: Tensor) -> Tensor:
    """How much the left half differs from the mirrored right half."""
    return (denoised - denoised.flip(-1)).square().sum() / 8


def smooth(denoised: Tensor) -> Tensor:
    """How much neighbouring latents differ, horizontally and vertically."""
    horizontal, vertical = denoised.diff(dim=-1).square().sum(), denoised.diff(dim=-2).square().sum()
    return (horizontal + vertical) / 16


def plain(denoised: Tensor) -> Tensor:
    """How much the latents differ from the mean of their channel: the contrast."""
    return (denoised - denoised.mean((-2, -1), keepdim=True)).square().sum() / 2


LOSSES: dict[str, Loss] = {"mirror": mirror, "smooth": smooth, "plain": plain}
"""The word of `--guidance classifier:scorer=` -> its loss."""


def gradient(loss: Loss, denoised: Tensor) -> Tensor:
    """The gradient of a loss at an estimate, of its shape; works inside inference mode too."""
    with torch.inference_mode(False), torch.enable_grad():
        leaf = denoised.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(loss(leaf), leaf)
    return slope
