from __future__ import annotations

from typing import Any

from torch import Tensor

from sdcli.diffusion.types import Denoise, Predict
from sdcli.diffusion.uncond import with_uncond


def apg(
    predict: Predict,
    positive: Any,
    negative: Any,
    scale: float,
    *,
    eta: float = 0.0,
    norm: float = 7.5,
    momentum: float = -0.75,
) -> Denoise:
    """Adaptive projected guidance: only what turns the estimate, not what saturates it; for high scales.

    Sadat et al. 2024, "Eliminating Oversaturation and Artifacts of High Guidance Scales", algorithm 1, with their
    options for Stable Diffusion: eta, the share that is kept of the part along the estimate; norm, the longest
    difference, 0 for any; momentum, that of the differences of the steps before. 1, 0, 0 are plain guidance.

    paper: https://arxiv.org/abs/2410.02416
    """
    running: Tensor | float = 0.0

    def denoise(x: Tensor, sigma: float) -> Tensor:
        nonlocal running
        against, towards = predict(x, sigma, [negative, positive])
        running = (towards - against) + running * momentum
        turn = running
        if norm > 0:
            turn = turn * min(1.0, norm / max(float(turn.norm()), 1e-12))
        along = towards * float((turn * towards).sum() / towards.square().sum().clamp(min=1e-12))
        return with_uncond(towards + (turn - along * (1 - eta)) * (scale - 1), lambda: against)

    return denoise
