"""Borrowed: the network classes of diffusers and transformers, built without weights; the only place that imports them.

Both packages import far more than four classes need. Their optional parts are imported lazily here, or not at all.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from sdcli.errors import ModelError


def build_on_meta(part: str, config: Mapping[str, Any], path: str) -> nn.Module:
    """The network `part` (a text encoder, unet, vae, …) of this config, on the meta device: shapes, no memory."""
    from huggingface_hub.errors import StrictDataclassError

    try:
        if max(_numbers([config.get(key) for key in _LAYERS]), default=0) > MOST:
            raise ValueError(f"more than {MOST} layers")
        with torch.device("meta"):
            return _BUILD.get(part, _text_encoder)(dict(config))
    except (
        TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError, AssertionError,
        StrictDataclassError,
    ) as error:  # whatever a class raises of a config that makes no sense  # fmt: skip
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{path}: config.json describes no network that can be built ({reason})") from None


MOST = 200  # layers, of any kind; the largest network here has 32
_LAYERS = (
    "layers_per_block",
    "num_hidden_layers",
    "transformer_layers_per_block",
    "reverse_transformer_layers_per_block",
    "num_encoder_blocks",
    "num_decoder_blocks",
)


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, list | tuple):
        for each in value:
            yield from _numbers(each)
    elif isinstance(value, int | float):
        yield value


def build_random(part: str, config: Mapping[str, Any]) -> nn.Module:
    """The network `part` of this config with the random weights of seed 0; torch's own seed is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _BUILD.get(part, _text_encoder)(dict(config))


def prefix(net: nn.Module) -> str:
    """What stands before a text encoder's names; transformers 5.6 took it out of CLIPTextModel, and not of others."""
    return "text_model." if hasattr(net, "text_model") else ""


def own_name(name: str, prefix: str) -> str:
    """A tensor's plain name -> its name in a class with that prefix."""
    return name if name.startswith("text_projection") else prefix + name


def restore_buffers(net: nn.Module) -> None:
    """Give buffers that no file carries, still on the meta device, their values."""
    for name, buffer in list(net.named_buffers()):
        if buffer.is_meta:
            if not name.endswith("position_ids"):
                raise AssertionError(f"no rule for the buffer {name}")
            owner, _, leaf = name.rpartition(".")
            count = buffer.shape[-1]
            net.get_submodule(owner).register_buffer(
                leaf, torch.arange(count).expand(1, -1), persistent=False
            )


def versions() -> dict[str, str]:
    """The versions of what the networks come from, for a picture's metadata."""
    return {name: version(name) for name in ("diffusers", "transformers")}


def _unet(config: dict[str, Any]) -> nn.Module:
    _hush()
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    return UNet2DConditionModel.from_config(config)


def _vae(config: dict[str, Any]) -> nn.Module:
    _hush()
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    if "encoder_block_out_channels" in config:
        return _tiny_vae(config)
    return AutoencoderKL.from_config(config)


def _hush() -> None:
    """The library is silent: what matters of what diffusers would log is checked here, and raised."""
    from diffusers.utils import logging

    logging.set_verbosity_error()


def _tiny_vae(config: dict[str, Any]) -> nn.Module:
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

    return AutoencoderTiny.from_config(config)


def _depth_estimator(config: dict[str, Any]) -> nn.Module:
    from transformers.models.dpt.configuration_dpt import DPTConfig
    from transformers.models.dpt.modeling_dpt import DPTForDepthEstimation
    from transformers.utils import logging

    logging.set_verbosity_error()
    return DPTForDepthEstimation(DPTConfig(**copy.deepcopy(config)))  # it writes into the inner config


def _text_encoder(config: dict[str, Any]) -> nn.Module:
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPTextModelWithProjection
    from transformers.utils import logging

    logging.set_verbosity_error()
    pooled = config.get("architectures") == ["CLIPTextModelWithProjection"]
    return (CLIPTextModelWithProjection if pooled else CLIPTextModel)(CLIPTextConfig(**config))


_BUILD = {"unet": _unet, "vae": _vae, "depth_estimator": _depth_estimator}
