"""Build: networks from their configs, without weights or with random ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from sdcli.checkpoints import network_config
from sdcli.checkpoints.family import Config
from sdcli.models import library
from sdcli.models.architectures.clip import CLIPTextModel
from sdcli.models.architectures.taesd import AutoencoderTiny
from sdcli.models.architectures.unet import UNet
from sdcli.models.architectures.vae import AutoencoderKL

_NONSENSE = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    AssertionError,
)
"""What torch raises for settings that make no sense, such as widths that do not divide."""


class _WithoutInit(TorchFunctionMode):
    """Skips the functions of torch.nn.init: on the meta device they set nothing, but normal_ imports torch._dynamo."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def build_on_meta(part: str, config: Config, path: str, by_library: bool = False) -> nn.Module:
    """The network `part` (unet, vae, text_encoder, …) of this config on the meta device: it has shapes, but no memory.

    Raises ModelError, which names `path`, if the config describes no network that can be built.
    """
    try:
        with torch.device("meta"), _WithoutInit():
            return _build(part, config, by_library)
    except _NONSENSE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise network_config.not_built(path, reason) from None


def module_on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    """The module that `make` makes, on the meta device: it has shapes, but no memory."""
    with torch.device("meta"), _WithoutInit():
        return make()


def build_control(network: type[nn.Module], settings: Mapping[str, Any], path: str) -> nn.Module:
    """A control network of these complete settings on the meta device.

    Raises ModelError, which names `path`, if they describe no network that can be built.
    """
    try:
        with torch.device("meta"), _WithoutInit():
            return network(settings)
    except _NONSENSE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise network_config.not_built(path, reason) from None


def build_random(part: str, config: Config) -> nn.Module:
    """The network `part` of this config with the random weights of seed 0; torch's own seed is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _build(part, config)


def _build(part: str, config: Config, by_library: bool = False) -> nn.Module:
    if part == "depth_estimator":
        return library.depth_estimator(config)
    settings = network_config.settings(part, config)
    if by_library:
        return library.build(part, settings)
    if part == "unet":
        return UNet(settings)
    if part == "vae":
        tiny = "encoder_block_out_channels" in settings
        return AutoencoderTiny(settings) if tiny else AutoencoderKL(settings)
    return CLIPTextModel(settings)
