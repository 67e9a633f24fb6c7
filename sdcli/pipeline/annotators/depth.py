from __future__ import annotations

import numpy as np
from PIL import Image
from torch.nn import functional as F

from sdcli.pipeline.depth import estimate_by, load_depth_network


def depth(image: Image.Image, model: str, device: str = "auto") -> Image.Image:
    """How near things are: the nearest is white, the farthest black; by a Stable Diffusion 2 depth model.

    A grey picture of 16 bits and of the size of `image`. Of the model, its depth network alone is loaded.
    """
    whole = F.interpolate(
        estimate_by(load_depth_network(model, device), image), image.size[::-1], mode="bicubic"
    )[0, 0]
    low, high = whole.min(), whole.max()
    near = (whole - low) / (high - low).clamp(min=1e-20)  # all black where there is no relief
    return Image.fromarray((near * 65535).round().cpu().numpy().astype(np.uint16))
