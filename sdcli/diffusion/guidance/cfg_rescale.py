from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from sdcli.diffusion.guidance.cfg import cfg
from sdcli.diffusion.types import Denoise, Predict
from sdcli.diffusion.uncond import with_uncond


def cfg_rescale(predict: Predict, positive: Any, negative: Any, scale: float, *, phi: float = 0.7) -> Denoise:
    """Classifier-free guidance brought back to the spread of the prompt alone: no glare at a high scale.

    Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed", section 3.4, on the velocity v
    whatever the network predicts, as ComfyUI does. Option: phi, how much of the way back.

    paper: https://arxiv.org/abs/2305.08891
    """
    plain = cfg(predict, positive, negative, scale)

    def denoise(x: Tensor, sigma: float) -> Tensor:
        if scale in (0, 1):
            return plain(x, sigma)
        against, towards = predict(x, sigma, [negative, positive])
        unit = math.sqrt(sigma**2 + 1)
        still = x / unit**2
        aim, guided = (still - towards) * (unit / sigma), against + (towards - against) * scale
        velocity = (still - guided) * (unit / sigma)
        velocity = velocity * (phi * float(aim.std() / velocity.std()) + 1 - phi)
        return with_uncond(still - velocity * (sigma / unit), lambda: against)

    return denoise
