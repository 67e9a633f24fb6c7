from __future__ import annotations

from typing import Any

from torch import Tensor

from sdcli.diffusion.guidance.cfg import cfg
from sdcli.diffusion.losses import SCORERS, gradient
from sdcli.diffusion.types import Denoise, Predict
from sdcli.diffusion.uncond import uncond_of, with_uncond
from sdcli.errors import UsageError


def classifier(
    predict: Predict,
    positive: Any,
    negative: Any,
    scale: float,
    *,
    scorer: str = "mirror",
    strength: float = 0.5,
) -> Denoise:
    """Classifier guidance on top of the classifier-free one: up the gradient of a score of the estimate.

    Dhariwal & Nichol 2021, "Diffusion Models Beat GANs", algorithm 2, with the gradient taken at the estimate as in
    Bansal et al. 2023, "Universal Guidance". Options: scorer, which is mirror (left like right), smooth (neighbours
    alike) or plain (little contrast); strength, how far to where it is content, below 0 away from there.

    paper: https://arxiv.org/abs/2105.05233
    """
    if scorer not in SCORERS:
        raise UsageError(f"no scorer is called {scorer!r}; there are: {', '.join(SCORERS)}")
    guided = cfg(predict, positive, negative, scale)

    def denoise(x: Tensor, sigma: float) -> Tensor:
        denoised = guided(x, sigma)
        return with_uncond(
            denoised + gradient(SCORERS[scorer], denoised) * strength, lambda: uncond_of(denoised)
        )

    return denoise
