"""Limits: what a model's scheduler does to each estimate of the data, so that few of its values are extreme."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from sdcli.diffusion.types import Denoise


@dataclass(frozen=True)
class Threshold:
    """Dynamic thresholding (Saharia et al. 2022, "Imagen", section 2.3), as `thresholding` of diffusers' schedulers.

    Values are clipped to the quantile `ratio` of their magnitudes, at least 1 and at most `most`, and divided by it.
    """

    ratio: float = 0.995
    most: float = 1.0

    def apply(self, denoise: Denoise) -> Denoise:
        """The same denoiser, whose estimates are thresholded."""

        def thresholded(x: Tensor, sigma: float) -> Tensor:
            return self.thresholded(denoise(x, sigma))

        return thresholded

    def thresholded(self, estimate: Tensor) -> Tensor:
        """An estimate (1, channels, h, w), thresholded."""
        size = estimate.abs().flatten().float().quantile(self.ratio).clamp(1, self.most).to(estimate)
        return estimate.clamp(-size, size) / size
