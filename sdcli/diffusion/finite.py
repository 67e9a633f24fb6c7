"""Sentry: stop a run at the first step whose estimate is not finite, and name it."""

from __future__ import annotations

import torch
from torch import Tensor

from sdcli.diffusion.types import Denoise
from sdcli.errors import NotFinite


def check_finite(denoise: Denoise) -> Denoise:
    """The same denoise, but a non-finite estimate raises NotFinite with its noise level."""

    def watched(x: Tensor, sigma: float) -> Tensor:
        denoised = denoise(x, sigma)
        if not torch.isfinite(denoised).all():
            raise NotFinite(
                f"the network's estimate at noise level {sigma:.4g} is not finite; try --dtype float32"
            )
        return denoised

    return watched
