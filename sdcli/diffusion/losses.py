"""Scorers: what an estimate may be judged by, for classifier guidance: (1, 4, h/8, w/8) -> one number, more is better.

Each is so scaled that one whole step along its gradient goes to where it asks for nothing more.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Scorer = Callable[[Tensor], Tensor]


def mirror(denoised: Tensor) -> Tensor:
    """How alike left and right are."""
    return -(denoised - denoised.flip(-1)).square().sum() / 8


def smooth(denoised: Tensor) -> Tensor:
    """How alike neighbours are, above and below, left and right."""
    beside, below = denoised.diff(dim=-1).square().sum(), denoised.diff(dim=-2).square().sum()
    return -(beside + below) / 16


def plain(denoised: Tensor) -> Tensor:
    """How near every place is to the mean of its channel: how little contrast there is."""
    return -(denoised - denoised.mean((-2, -1), keepdim=True)).square().sum() / 2


SCORERS: dict[str, Scorer] = {"mirror": mirror, "smooth": smooth, "plain": plain}


def gradient(scorer: Scorer, denoised: Tensor) -> Tensor:
    """Where the score rises fastest, of the shape of the estimate; any differentiable scorer will do."""
    with torch.inference_mode(False), torch.enable_grad():
        leaf = denoised.detach().clone().requires_grad_()
        (rise,) = torch.autograd.grad(scorer(leaf), leaf)
    return rise
