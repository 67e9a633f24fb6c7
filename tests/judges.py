"""The judges: networks as diffusers' and transformers' own classes, which ours are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from sdcli.models.model import Model


def random(part: str, config: Mapping[str, Any]) -> Any:
    """The library's own network `part` of a config.json, with the random weights of seed 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _class_of(part, config).eval()


def empty(part: str, config: Mapping[str, Any]) -> Any:
    """The library's own network `part` of a config.json on the meta device: made at once, but without weights."""
    with torch.device("meta"):
        return _class_of(part, config).eval()


def weights(network: Any) -> dict[str, torch.Tensor]:
    """The network's weights under our names: some versions of transformers put `text_model.` before them."""
    return {
        name.removeprefix("text_model."): tensor
        for name, tensor in network.state_dict().items()
        if not name.endswith("position_ids")
    }


def filled(network: Any, own: Mapping[str, torch.Tensor]) -> Any:
    """The library's network with the weights of ours, and without gradients."""
    names = {name.removeprefix("text_model."): name for name in network.state_dict()}
    renamed = {names[name]: tensor.clone() for name, tensor in own.items()}
    buffers = {name for name in network.state_dict() if name.endswith("position_ids")}
    missing, surplus = network.load_state_dict(renamed, strict=False)
    assert set(missing) <= buffers and not surplus
    return network.eval().requires_grad_(False)


def unet(model: Model) -> Any:
    """diffusers' UNet2DConditionModel with the weights of a loaded model."""
    config = {**model.configs["unet"], "sample_size": model.size // 8}  # which pipelines take their size from
    return filled(random("unet", config), model.unet.state_dict())


def vae(model: Model) -> Any:
    """diffusers' AutoencoderKL or AutoencoderTiny with the weights of a loaded model."""
    return filled(random("vae", model.configs["vae"]), model.vae.state_dict())


def text_encoder(model: Model, part: str = "text_encoder") -> Any:
    """transformers' CLIPTextModel, or the one with a projection, with the weights of a loaded model."""
    return filled(random(part, model.configs[part]), model.text_encoder(part).state_dict())


def _class_of(part: str, config: Mapping[str, Any]) -> Any:
    from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    if part == "unet":
        return UNet2DConditionModel.from_config(dict(config))
    if part == "vae":
        kind = AutoencoderTiny if "encoder_block_out_channels" in config else AutoencoderKL
        return kind.from_config(dict(config))
    projects = config.get("architectures") == ["CLIPTextModelWithProjection"]
    return (CLIPTextModelWithProjection if projects else CLIPTextModel)(CLIPTextConfig(**config))
