from __future__ import annotations

from torch import Tensor

from sdcli.diffusion.conditioning import Composed
from sdcli.diffusion.types import Denoise, PredictComposed
from sdcli.diffusion.uncond import with_uncond


def apg(
    predict: PredictComposed,
    positive: Composed,
    negative: Composed,
    scale: float,
    *,
    eta: float = 0.0,
    norm: float = 7.5,
    momentum: float = -0.75,
) -> Denoise:
    """Adaptive projected guidance: leaves out the part of the guidance that only saturates; for high scales.

    Sadat et al. 2024, "Eliminating Oversaturation and Artifacts of High Guidance Scales", algorithm 1, with the
    authors' values for Stable Diffusion. Options: eta, the share kept of the part that is parallel to the estimate;
    norm, the largest norm of the guidance difference, 0 for no limit; momentum, the weight of the previous steps'
    differences. eta 1, norm 0 and momentum 0 are plain classifier-free guidance.

    paper: https://arxiv.org/abs/2410.02416
    """
    average: Tensor | float = 0.0

    def denoise(x: Tensor, sigma: float) -> Tensor:
        nonlocal average
        uncond, cond = predict(x, sigma, [negative, positive])
        average = (cond - uncond) + average * momentum
        difference = average
        if norm > 0:
            difference = difference * min(1.0, norm / max(float(difference.norm()), 1e-12))
        parallel = cond * float((difference * cond).sum() / cond.square().sum().clamp(min=1e-12))
        return with_uncond(cond + (difference - parallel * (1 - eta)) * (scale - 1), lambda: uncond)

    return denoise
