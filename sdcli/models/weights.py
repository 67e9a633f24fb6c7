"""Weights: a network on the meta device is filled with those of its file, or with a test model's random ones."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from sdcli.checkpoints.component import Component, listing
from sdcli.errors import ModelError
from sdcli.models import build, layers, library
from sdcli.models.device import Placement
from sdcli.models.layers import memory_format
from sdcli.models.mapped import map_tensor, read_ahead
from sdcli.models.tensors import all_finite, read_tensors


@torch.inference_mode(False)  # also where a picture is drawn when it is loaded: training may follow
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
    weights, sums = {}, {}
    for name, tensor in read_tensors(component):
        weights[name] = _placed(tensor.reshape(needed[name].shape), placement)
        sums[name] = weights[name].sum()  # ten times faster than a test of each value
    finite = torch.isfinite(torch.stack([*sums.values()])).tolist()  # a GPU is not waited for before the end
    doubtful = [name for name, is_finite in zip(sums, finite, strict=True) if not is_finite]
    if not_finite := [name for name in doubtful if not all_finite(weights[name])]:
        reason = f"the file is damaged, or {placement.dtype} too narrow for it"
        raise ModelError(f"{component.path(not_finite[0])}: {listing(not_finite)} not finite; {reason}")
    return weights


def _placed(tensor: Tensor, placement: Placement) -> Tensor:
    """A stored tensor on the device, in its dtype; a GPU is sent it from pinned memory, while the next one is read."""
    if placement.device.type == "cuda":
        tensor = tensor.pin_memory().to(placement.device, non_blocking=True)
    return tensor.to(placement.device, placement.dtype, copy=True, memory_format=memory_format(tensor))


def _random_weights(part: str, component: Component, placement: Placement) -> dict[str, Tensor]:
    return {
        name: tensor.to(placement.device, placement.dtype, memory_format=memory_format(tensor))
        for name, tensor in build.build_random(part, component.config).state_dict().items()
    }


STORES = {"bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn}
"""What `--store` may say -> the dtype that weights are kept in until their layer runs."""


def load_layers(
    part: str,
    module: nn.Module,
    component: Component,
    placement: Placement,
    store: str = "auto",
    streams: bool = False,
) -> nn.Module:
    """Fill the small layers of a network on the meta device; its large ones get their weights while they run.

    Those are read from the mapped file each time if `streams`, else kept in memory in the dtype of `store`.
    """
    large = layers.names_of_layers(module)
    random = None if component.header is not None else build.build_random(part, component.config).state_dict()

    def stored(name: str) -> Tensor:
        tensor = map_tensor(component, name) if random is None else random[name]
        dtype = kept_dtype(part, name, tensor.dim(), store)
        return tensor if dtype is None else tensor.to(dtype)

    small = {name: stored(name) for name in module.state_dict() if name not in large}
    for name, tensor in small.items():
        shape = module.state_dict()[name].shape
        small[name] = tensor.reshape(shape).to(placement.device, placement.dtype, copy=True)
    if bad := [name for name, tensor in small.items() if not all_finite(tensor)]:
        raise ModelError(f"{component.path(bad[0])}: {listing(bad)} not finite; the file is damaged")
    module.to(placement.dtype)
    module.load_state_dict(small, strict=False, assign=True)
    library.restore_buffers(module)
    module.eval().requires_grad_(False)
    held = {} if streams else {name: stored(name) for name in module.state_dict() if name in large}
    expect = partial(read_ahead, component) if streams and random is None else lambda name: None
    where = "the test model" if component.header is None else str(component.header.path)
    layers.LayerWeights(module, stored if streams else held.__getitem__, placement, expect, where)
    return module


def kept_dtype(part: str, name: str, dimensions: int, store: str) -> torch.dtype | None:
    """The dtype that `store` keeps a weight of a large layer in; None for that of its file.

    fp8 is for matrices and kernels of the U-Net and the text encoders: biases stay, and so does the embedding of the
    tokens, which a layer norm would amplify. The VAE, whose errors are seen at once, is kept in bfloat16.
    """
    if store == "auto":
        return None
    is_narrow = dimensions >= 2 and "token_embedding" not in name and part != "vae"
    return STORES[store] if is_narrow else torch.bfloat16 if dimensions >= 2 else None
