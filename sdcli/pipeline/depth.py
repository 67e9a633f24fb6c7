"""Depth: how near each part of a picture is, estimated by the depth network of a Stable Diffusion 2 depth model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sdcli.checkpoints import checkpoint
from sdcli.errors import ModelError, NotFinite
from sdcli.models.load import load_network
from sdcli.models.model import Model

PART = "depth_estimator"
LACKING = "no depth network in it; use a Stable Diffusion 2 depth checkpoint that has one"


def estimate(model: Model, image: Image.Image) -> Tensor:
    """The depth of a picture of any size: (1, 1, 384, 384) float32 on the model's device; larger is nearer.

    The values are relative: they have no unit and no zero. The network is loaded at the first call. Raises ModelError
    if the model has none.
    """
    if model.load_depth_network is None:
        raise ModelError(f"{model.name}: {LACKING}, or give a depth map")
    return estimate_by(model.load_depth_network(), image)


def load_depth_network(name: str, device: str = "auto") -> Any:
    """The depth network (DPT) of the model of this name, and no other network; raises ModelError if it has none."""
    found = checkpoint.read(name)
    if PART not in found.components:
        raise ModelError(f"{name}: {LACKING}")
    return load_network(found, PART, device)


@torch.inference_mode()
def estimate_by(network: Any, image: Image.Image) -> Tensor:
    """The depth of a picture by a loaded network; the map has the size of the pictures it was built for."""
    pixels = prepare(image, network.config.image_size).to(network.device, network.dtype)
    depth: Tensor = network(pixels).predicted_depth
    if not torch.isfinite(depth).all():
        raise NotFinite(
            "the estimated depth is not finite; the depth network is damaged, fetch the model again"
        )
    return depth[:, None].float()


def prepare(image: Image.Image, side: int) -> Tensor:
    """The picture as the network was trained on it: stretched to a square, bicubic, (1, 3, side, side) in -1 … 1."""
    square = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)[None].float() / 127.5 - 1
