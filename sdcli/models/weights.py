"""Weights: a network on the meta device is filled with those of its file, or with a test model's random ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sdcli.checkpoints.component import Component, listing
from sdcli.errors import ModelError
from sdcli.models import build, library
from sdcli.models.device import Placement
from sdcli.models.tensors import all_finite, read_tensors


def load_weights(part: str, module: nn.Module, component: Component, placement: Placement) -> nn.Module:
    """Fill a network on the meta device with its weights: those in its file, or a test model's random ones.

    Raises ModelError if the file cannot be read or holds a value that is not finite.
    """
    if component.header is None:
        weights = _random_weights(part, component, placement)
    else:
        weights = _stored_weights(module, component, placement)
    module.load_state_dict(weights, assign=True)
    library.restore_buffers(module)
    return module.eval().requires_grad_(False).to(placement.device)


def _stored_weights(module: nn.Module, component: Component, placement: Placement) -> dict[str, Tensor]:
    needed = module.state_dict()
    weights, not_finite = {}, []
    for name, tensor in read_tensors(component):
        tensor = tensor.reshape(needed[name].shape)
        tensor = tensor.to(placement.device, placement.dtype, copy=True, memory_format=memory_format(tensor))
        if not all_finite(tensor):
            not_finite.append(name)
        weights[name] = tensor
    if not_finite:
        reason = f"the file is damaged, or {placement.dtype} too narrow for it"
        raise ModelError(f"{component.path(not_finite[0])}: {listing(not_finite)} not finite; {reason}")
    return weights


def _random_weights(part: str, component: Component, placement: Placement) -> dict[str, Tensor]:
    return {
        name: tensor.to(placement.device, placement.dtype, memory_format=memory_format(tensor))
        for name, tensor in build.build_random(part, component.config).state_dict().items()
    }


def memory_format(tensor: Tensor) -> torch.memory_format:
    """How a weight lies in memory: the channels of an image last."""
    return torch.channels_last if tensor.dim() == 4 else torch.preserve_format
