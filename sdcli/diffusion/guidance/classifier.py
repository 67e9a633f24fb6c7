from __future__ import annotations

from torch import Tensor

from sdcli.diffusion.conditioning import Composed
from sdcli.diffusion.guidance.cfg import cfg
from sdcli.diffusion.losses import LOSSES, gradient
from sdcli.diffusion.types import Denoise, PredictComposed
from sdcli.diffusion.uncond import uncond_of, with_uncond
from sdcli.errors import UsageError


def classifier(
    predict: PredictComposed,
    positive: Composed,
    negative: Composed,
    scale: float,
    *,
    scorer: str = "mirror",
    strength: float = 0.5,
) -> Denoise:
    """Classifier guidance on top of classifier-free guidance: down the gradient of a loss of the estimate.

    Dhariwal & Nichol 2021, "Diffusion Models Beat GANs", algorithm 2, with the gradient taken at the estimate as in
    Bansal et al. 2023, "Universal Guidance". Options: scorer, the loss: mirror (left and right alike), smooth
    (neighbours alike) or plain (little contrast); strength, 1 for one whole step down, below 0 for steps up.

    paper: https://arxiv.org/abs/2105.05233
    """
    if scorer not in LOSSES:
        raise UsageError(f"no scorer is called {scorer!r}; there are: {', '.join(LOSSES)}")
    guided = cfg(predict, positive, negative, scale)

    def denoise(x: Tensor, sigma: float) -> Tensor:
        denoised = guided(x, sigma)
        return with_uncond(
            denoised - gradient(LOSSES[scorer], denoised) * strength, lambda: uncond_of(denoised)
        )

    return denoise
