"""Control files for the tests: networks of random weights at toy width, as the tools write them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from sdcli.checkpoints import network_config, toy
from sdcli.checkpoints.keys import ldm
from sdcli.models.cache import ModelCache
from sdcli.models.control import network_of
from sdcli.request.request import Loading

HINT_CHANNELS = [4, 4, 8, 8]
HINT_KEYS = {"conv_in": 0, **{f"blocks.{i}": 2 * i + 2 for i in range(6)}, "conv_out": 14}


def unet_settings(model: str) -> dict[str, Any]:
    """The settings of a test model's U-Net."""
    return network_config.settings("unet", toy.family(model)[0].configs["unet"])


def settings(model: str, kind: str = "controlnet") -> dict[str, Any]:
    """The settings of a control network for a test model."""
    unet = unet_settings(model)
    if kind.startswith("t2i"):
        widths, is_xl = list(unet["block_out_channels"]), unet["addition_embed_type"] == "text_time"
        return {
            "channels": [*widths, widths[-1]] if len(widths) == 3 else widths,
            "hint_channels": 3,
            "shrink": 16 if is_xl else 8,
            "halves": [2] if is_xl else [1, 2, 3],
            "light": kind == "t2i-light",
            "blocks": 4 if kind == "t2i-light" else 2,
        }
    return unet | {
        "in_channels": 4,
        "conditioning_channels": 3,
        "hint_channels": HINT_CHANNELS,
        "control_types": 6 if kind == "union" else 0,
    }


def network(model: str, kind: str = "controlnet", seed: int = 1) -> torch.nn.Module:
    """A control network with random weights, no convolution of which is zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = network_of(kind)(settings(model, kind))
        for parameter in made.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
    return made.eval().requires_grad_(False)


def weights(model: str, kind: str = "controlnet", seed: int = 1) -> dict[str, Tensor]:
    """The weights of such a network by diffusers' names, without `adapter.`."""
    return {name: tensor.clone() for name, tensor in network(model, kind, seed).state_dict().items()}


def as_ldm(named: Mapping[str, Tensor], prefix: str = "control_model.") -> dict[str, Tensor]:
    """A ControlNet's weights by LDM's names."""
    return {prefix + ldm_key(name, named): tensor for name, tensor in named.items()}


def ldm_key(name: str, names: Mapping[str, Tensor]) -> str:
    """LDM's name of a ControlNet's tensor."""
    module, _, leaf = name.rpartition(".")
    if module.startswith("controlnet_cond_embedding."):
        return f"input_hint_block.{HINT_KEYS[module.partition('.')[2]]}.{leaf}"
    if module.startswith("controlnet_down_blocks."):
        return f"zero_convs.{module.rpartition('.')[2]}.0.{leaf}"
    if module == "controlnet_mid_block":
        return f"middle_block_out.0.{leaf}"
    return ldm.unet_key(name, names)


def write(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """The tensors as a file; its path."""
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return str(path)


def controlnet(folder: Path, model: str = "test:sd1", name: str = "canny.safetensors") -> str:
    """A ControlNet for a test model, with LDM's names."""
    return write(folder / name, as_ldm(weights(model)))


def on_top_of(model: str, models: ModelCache) -> tuple[dict[str, Tensor], ...]:
    """One ControlNet whole, as a Control-LoRA and as a difference: the U-Net's weights and small products of rank 2."""
    with models.use(Loading(model=model)) as loaded:
        unet = {name: tensor.clone() for name, tensor in loaded.unet.state_dict().items()}
    own = weights(model)
    rng = torch.Generator().manual_seed(5)
    whole, lora, difference = {}, {"lora_controlnet": torch.zeros(())}, {"difference": torch.zeros(())}
    for name, tensor in own.items():
        key = ldm_key(name, own)
        if name not in unet:
            whole[key] = lora[key] = difference[f"control_model.{key}"] = tensor
        elif tensor.dim() > 1:
            up = torch.randn(tensor.shape[0], 2, generator=rng) * 0.1
            down = torch.randn(2, *tensor.shape[1:], generator=rng) * 0.1
            product = (up @ down.flatten(1)).reshape(tensor.shape)
            module = key.removesuffix(".weight")
            lora |= {f"{module}.up": up, f"{module}.down": down}
            whole[key], difference[f"control_model.{key}"] = unet[name] + product, product
        else:
            whole[key], difference[f"control_model.{key}"] = unet[name], torch.zeros_like(tensor)
    return whole, lora, difference
