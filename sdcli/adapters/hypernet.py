"""Hypernet: small networks that change the context before attention takes its keys and values from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sdcli.checkpoints.component import listing
from sdcli.checkpoints.hypernet_file import HypernetFile
from sdcli.errors import ModelError
from sdcli.models.offload import Adapter
from sdcli.models.tensors import all_finite, read_tensors

_MODULES: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.LeakyReLU, nn.ELU, nn.Tanh, nn.Sigmoid, nn.CELU, nn.GELU, nn.Hardshrink, nn.Hardsigmoid,
    nn.Hardswish, nn.Hardtanh, nn.LogSigmoid, nn.Mish, nn.ReLU6, nn.RReLU, nn.SELU, nn.SiLU, nn.Softplus,
    nn.Softshrink, nn.Softsign, nn.Tanhshrink,
)  # fmt: skip
_ACTIVATIONS = {each.__name__.lower(): each for each in _MODULES} | {"swish": nn.Hardswish}
"""A1111's word -> torch's module; its "swish" is Hardswish."""

_PROJECTIONS = {"to_k": 0, "to_v": 1}
"""Projection of an attention -> the half of a hypernetwork that changes what it projects."""


def hypernet(file: HypernetFile, strength: float = 1.0) -> Adapter:
    """A hypernetwork of A1111 at this strength: k = to_k(c + strength H_k(c)), and v likewise with H_v.

    c is what an attention layer takes keys and values from: the text, or the image itself in self-attention. Each layer
    whose c has a width that the file knows is changed, for every prompt alike. Several such adapters act one after the
    other, each on what the one before it made of c. At strength 0 the network is left alone.
    """

    @contextmanager
    def adapted(part: str, module: nn.Module) -> Iterator[None]:
        if part != "unet" or strength == 0:
            yield
            return
        halves = networks(file)
        hooks = []
        try:
            for name, layer in module.named_modules():
                half = _PROJECTIONS.get(name.rpartition(".")[2])
                if half is not None and isinstance(layer, nn.Linear):
                    network = halves.get((layer.in_features, half))
                    if network is not None:
                        hooks.append(layer.register_forward_pre_hook(_changing(network, strength)))
            yield
        finally:
            for hook in hooks:
                hook.remove()

    return adapted


def networks(file: HypernetFile) -> Mapping[tuple[int, int], nn.Sequential]:
    """The networks of a file by the width of their context and their half: 0 for keys, 1 for values.

    Raises ModelError if the file cannot be read or holds a value that is not finite.
    """
    tensors = {name: tensor.float() for name, tensor in read_tensors(file.component)}
    bad = [name for name, tensor in tensors.items() if not all_finite(tensor)]
    if bad:
        raise ModelError(f"{file.path}: {listing(bad)} not finite; the file is damaged")
    return {(width, half): _network(file, width, half, tensors) for width in file.widths for half in (0, 1)}


def _network(file: HypernetFile, width: int, half: int, tensors: Mapping[str, Tensor]) -> nn.Sequential:
    modules: list[nn.Module] = []
    for layer in file.layers(width):
        is_linear = layer.kind == "linear"
        with torch.device("meta"):
            module = nn.Linear(layer.inputs, layer.outputs) if is_linear else nn.LayerNorm(layer.outputs)
        name = f"{width}.{half}.linear.{layer.number}"
        weights = {key: tensors[f"{name}.{key}"] for key in ("weight", "bias")}
        module.load_state_dict(weights, assign=True)
        modules.append(module)
        if layer.activates:
            modules.append(_ACTIVATIONS[file.activation]())
    return nn.Sequential(*modules).eval().requires_grad_(False)


def _changing(network: nn.Sequential, strength: float) -> Any:
    """A hook that changes what a projection is given."""

    def change(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        context = inputs[0]
        network.to(context.device, context.dtype)
        return (context + network(context) * strength,)

    return change
