"""Depth: how near each part of a picture is, as the depth network of a Stable Diffusion 2 depth model sees it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sdcli.checkpoints import checkpoint
from sdcli.errors import ModelError, NotFinite
from sdcli.models.load import alone
from sdcli.models.model import Model

PART = "depth_estimator"
_LACKING = "no depth network in it; use a Stable Diffusion 2 depth checkpoint that has one"


def estimate(model: Model, image: Image.Image) -> Tensor:
    """The depth of a picture of any size: (1, 1, 384, 384) float32 on the model's device, larger is nearer.

    It has neither unit nor zero. The network is loaded when it is first asked. Raises ModelError if there is none.
    """
    if model.depth is None:
        raise ModelError(f"{model.name}: {_LACKING}, or give a depth map")
    return seen(model.depth(), image)


def network(name: str, device: str = "auto") -> Any:
    """The depth network of the model of this name, and no other; raises ModelError if there is none."""
    found = checkpoint.read(name)
    if PART not in found.networks:
        raise ModelError(f"{name}: {_LACKING}")
    return alone(found, PART, device)


@torch.inference_mode()
def seen(net: Any, image: Image.Image) -> Tensor:
    """The depth of a picture by a network that is at hand; its map is as large as the pictures it was built for."""
    pixels = prepared(image, net.config.image_size).to(net.device, net.dtype)
    depth: Tensor = net(pixels).predicted_depth
    if not torch.isfinite(depth).all():
        raise NotFinite(
            "the estimated depth is not finite; the depth network is damaged, fetch the model again"
        )
    return depth[:, None].float()


def prepared(image: Image.Image, side: int) -> Tensor:
    """The picture as the network was shown pictures: stretched to a square, bicubic, (1, 3, side, side) in -1 … 1."""
    square = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)[None].float() / 127.5 - 1
