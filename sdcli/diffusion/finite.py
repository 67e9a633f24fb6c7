"""Check that the network's estimates are finite: stops a run at the first one that is not."""

from __future__ import annotations

import torch
from torch import Tensor

from sdcli.diffusion.types import Denoise
from sdcli.errors import NotFinite


def check_finite(denoise: Denoise) -> Denoise:
    """The same denoise, which raises NotFinite with the noise level if an estimate is not finite."""

    def checked(x: Tensor, sigma: float) -> Tensor:
        denoised = denoise(x, sigma)
        if not torch.isfinite(denoised).all():
            raise NotFinite(
                f"the network's estimate at noise level {sigma:.4g} is not finite; try --dtype float32"
            )
        return denoised

    return checked
