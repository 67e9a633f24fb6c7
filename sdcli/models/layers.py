"""Layers: a network whose large layers hold weights only while they run, cast from where they are stored."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sdcli.errors import ModelError
from sdcli.models.device import Placement
from sdcli.models.mapped import is_aligned

Read = Callable[[str], Tensor]
"""Name of a tensor in the network -> the tensor as it is stored, which the caller does not change."""

Change = Callable[[Tensor], Tensor]
"""A weight in float32, which may be overwritten -> the weight that is used in its place."""


class LayerWeights(Mapping[str, Tensor]):
    """The weights of a network's large layers: each has them while it runs, and is on the meta device otherwise.

    A weight is read, changed by what `changes` has under its name, and cast to the placement's dtype, as if the whole
    network were loaded: a picture keeps its bytes. `expect` is told which tensor is likely to be read next. As a
    mapping it gives all weights of the network, the small ones too.
    """

    def __init__(
        self,
        module: nn.Module,
        read: Read,
        placement: Placement,
        expect: Callable[[str], None] = lambda name: None,
        where: str = "the model",
    ) -> None:
        self.changes: dict[str, Change] = {}
        self._module, self._read, self._placement = module, read, placement
        self._expect, self._where = expect, where
        self._names = list(module.state_dict())
        self._checked: set[str] = set()  # those whose values are known to be finite
        self._next: dict[str, str] = {}  # layer -> the layer that ran after it
        self._last = ""
        self._hooks: list[Any] = []
        for path, layer in large_layers(module):
            self._hooks.append(layer.register_forward_pre_hook(self._filling(path)))
            self._hooks.append(layer.register_forward_hook(self._emptying(layer), always_call=True))
        vars(module)["_layer_weights"] = self

    def remove(self) -> None:
        """Let go of the network and of what is stored for it."""
        for hook in self._hooks:
            hook.remove()
        del vars(self._module)["_layer_weights"]

    def base(self, name: str) -> Tensor:
        """A weight in float32 before any change, as a copy."""
        placement = self._placement
        shape = self._module.get_parameter(name).shape
        stored = self._read(name).reshape(shape)
        kept = memory_format(stored) if placement.dtype == torch.float32 else torch.preserve_format
        return stored.to(placement.device, torch.float32, copy=True, memory_format=kept)

    def __getitem__(self, name: str) -> Tensor:
        parameter = self._module.state_dict()[name]
        return self._filled(name, parameter) if parameter.is_meta else parameter

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def _filling(self, path: str) -> Callable[..., None]:
        def fill(layer: nn.Module, _: object) -> None:
            for name, parameter in list(layer._parameters.items()):
                if parameter is not None and parameter.is_meta:
                    weight = self._filled(f"{path}.{name}", parameter)
                    layer._parameters[name] = nn.Parameter(weight, requires_grad=False)
            self._next[self._last], self._last = path, path
            if path in self._next:
                self._expect(f"{self._next[path]}.weight")

        return fill

    def _emptying(self, layer: nn.Module) -> Callable[..., None]:
        empty = dict(layer._parameters)

        def drop(layer: nn.Module, *_: object) -> None:
            for name, parameter in empty.items():
                now = layer._parameters[name]
                if parameter is None or now is None or now.is_meta:
                    continue
                layer._parameters[name] = nn.Parameter(now.to("meta"), requires_grad=False)

        return drop

    def _filled(self, name: str, parameter: Tensor) -> Tensor:
        """A weight as the network uses it: in the placement's dtype, or in the wider one it is in for a while."""
        placement = self._placement
        if change := self.changes.get(name):
            weight = change(self.base(name))
        else:
            weight = self._read(name).reshape(parameter.shape)
        weight = weight.to(placement.device, placement.dtype, memory_format=memory_format(weight))
        weight = weight if is_aligned(weight) else weight.clone()
        if name not in self._checked and change is None:
            self._check(name, weight)
        return weight.to(parameter.dtype)

    def _check(self, name: str, weight: Tensor) -> None:
        if not (bool(torch.isfinite(weight.sum())) or bool(torch.isfinite(weight).all())):
            reason = f"the file is damaged, or {self._placement.dtype} too narrow for it"
            raise ModelError(f"{self._where}: 1 tensor ({name[-72:]}) not finite; {reason}")
        self._checked.add(name)


def of(module: nn.Module) -> LayerWeights | None:
    """What fills the layers of this network; None if it holds its weights itself."""
    found: LayerWeights | None = vars(module).get("_layer_weights")
    return found


def weights_of(module: nn.Module) -> Mapping[str, Tensor]:
    """All weights of a network by their names, wherever they are."""
    return of(module) or dict(module.state_dict())


def large_layers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers with nearly all weights: linear ones, convolutions, and the embedding of the tokens."""
    for path, layer in module.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d) or path.endswith("token_embedding"):
            yield path, layer


def names_of_layers(module: nn.Module) -> Collection[str]:
    """The names of the tensors in large layers."""
    return {f"{path}.{name}" for path, layer in large_layers(module) for name in layer._parameters}


def memory_format(tensor: Tensor) -> torch.memory_format:
    """How a weight lies in memory: the channels of an image last."""
    return torch.channels_last if tensor.dim() == 4 else torch.preserve_format
