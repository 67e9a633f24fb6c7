from __future__ import annotations

import math

from torch import Tensor

from sdcli.diffusion.conditioning import Composed
from sdcli.diffusion.guidance.cfg import cfg
from sdcli.diffusion.types import Denoise, PredictComposed
from sdcli.diffusion.uncond import with_uncond


def cfg_rescale(
    predict: PredictComposed, positive: Composed, negative: Composed, scale: float, *, phi: float = 0.7
) -> Denoise:
    """Classifier-free guidance rescaled to the spread of the prompt alone: no glare at a high scale.

    Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed", section 3.4, on the velocity v
    whatever the network predicts, as ComfyUI does it. Option: phi, 1 for the full rescaling, 0 for none.

    paper: https://arxiv.org/abs/2305.08891
    """
    plain = cfg(predict, positive, negative, scale)

    def denoise(x: Tensor, sigma: float) -> Tensor:
        if scale in (0, 1):
            return plain(x, sigma)
        uncond, cond = predict(x, sigma, [negative, positive])
        total_std = math.sqrt(sigma**2 + 1)  # of x where the data has unit variance
        at_rest = x / total_std**2  # the estimate at velocity 0
        guided = uncond + (cond - uncond) * scale
        cond_velocity = (at_rest - cond) * (total_std / sigma)
        velocity = (at_rest - guided) * (total_std / sigma)
        velocity = velocity * (phi * float(cond_velocity.std() / velocity.std()) + 1 - phi)
        return with_uncond(at_rest - velocity * (sigma / total_std), lambda: uncond)

    return denoise
