"""The judges: the networks of a model as diffusers' and transformers' own classes, with the same weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from sdcli.models.model import Model


def unet(model: Model) -> Any:
    """diffusers' UNet2DConditionModel."""
    from diffusers import UNet2DConditionModel

    config = {**model.configs["unet"], "sample_size": model.size // 8}
    return filled(UNet2DConditionModel.from_config(config), model.unet.state_dict())


def vae(model: Model) -> Any:
    """diffusers' AutoencoderKL or AutoencoderTiny."""
    from diffusers import AutoencoderKL, AutoencoderTiny

    config = dict(model.configs["vae"])
    kind = AutoencoderTiny if "encoder_block_out_channels" in config else AutoencoderKL
    return filled(kind.from_config(config), model.vae.state_dict())


def text_encoder(model: Model, part: str = "text_encoder") -> Any:
    """transformers' CLIPTextModel, or the one with a projection."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = dict(model.configs[part])
    kind = CLIPTextModelWithProjection if config.get("architectures") else CLIPTextModel
    return filled(kind(CLIPTextConfig(**config)), model.text_encoder(part).state_dict())


def filled(network: Any, weights: Mapping[str, torch.Tensor]) -> Any:
    """The network with these weights; transformers' older classes put `text_model.` before a text encoder's names."""
    prefix = "text_model." if hasattr(network, "text_model") else ""
    names = {name: name if name.startswith("text_projection") else prefix + name for name in weights}
    own = {names[name]: tensor.clone() for name, tensor in weights.items()}
    buffers = {name for name in network.state_dict() if name.endswith("position_ids")}
    missing, surplus = network.load_state_dict(own, strict=False)
    assert set(missing) <= buffers and not surplus
    return network.eval().requires_grad_(False)
