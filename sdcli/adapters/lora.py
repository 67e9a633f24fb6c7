"""LoRA and its kin: changes of a network's weights, merged into them, or beside them for some of the steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sdcli.adapters import deltas
from sdcli.adapters.deltas.branch import branch
from sdcli.adapters.deltas.uses import (
    ALWAYS,
    Use,
    added_up,
    by_module,
    changed,
    changed_bias,
    delta_of,
    tensors_of,
    with_changes,
)
from sdcli.diffusion.step_range import holds, steps_between
from sdcli.diffusion.unet_call import UNetCall
from sdcli.models import layers
from sdcli.models.offload import Adapter, ReadWeights


class Loras:
    """The adapter of a job's LoRAs. Those that act in all steps are merged into the weights, so a step costs no more.

    W' = W + the sum of strength * change, computed in float32 from the stored weights and then cast. The changes are
    added in the order of their files' sha256, so the order in which they are named changes no bit. Those that see the
    weight (DoRA, OFT, …) see W itself. On the way out, the weights are read again.

    A change that acts in some steps only is computed beside its module, whose answer it is added to.
    """

    def __init__(self, uses: Sequence[Use], read: ReadWeights) -> None:
        self._uses = sorted(added_up(uses), key=lambda use: (use.digest, use.steps, use.rank))
        self._read = read
        self._levels: Sequence[float] = ()
        self._sigma = 0.0

    def begin(self, levels: Sequence[float]) -> None:
        """A run begins that visits these noise levels."""
        self._levels = levels

    def see(self, call: UNetCall) -> None:
        """This is the next call of the U-Net."""
        self._sigma = call.sigma

    @contextmanager
    def adapted(self, part: str, module: nn.Module) -> Iterator[None]:
        """Change the weights of a network while inside."""
        own = [use for use in self._uses if use.change.module.part == part and use.strength]
        merged = by_module([use for use in own if use.steps == ALWAYS or part != "unet"])
        branches = by_module([use for use in own if use.steps != ALWAYS and part == "unet"])
        streamed = layers.of(module)
        touched: list[str] = []
        patched: list[Any] = []
        try:
            self._branch(part, module, branches, patched)  # first, while the weights are the model's own
            self._merge(part, module, merged, touched)
            yield
        finally:
            if streamed is not None:
                streamed.changes.clear()
            for layer in patched:
                vars(layer).pop("forward", None)
            parameters = dict(module.named_parameters())
            for name, tensor in self._read(part, touched):
                _set(parameters[name], tensor)

    def _merge(
        self, part: str, module: nn.Module, uses: Mapping[str, Sequence[Use]], touched: list[str]
    ) -> None:
        parameters = dict(module.named_parameters())
        streamed = [path for path in uses if parameters[f"{path}.weight"].is_meta]
        _merge_when_filled(module, {path: uses[path] for path in streamed})
        whole = [path for path in uses if path not in streamed]
        for name, base in self._bases(part, module, [f"{path}.weight" for path in whole]):
            path = name.removesuffix(".weight")
            read = [(use, tensors_of(use, base.device)) for use in uses[path]]
            changes = [(use, delta_of(use, tensors, base)) for use, tensors in read]
            touched.append(name)
            _add(parameters[name], base, changes)
            biases = [(use, deltas.bias_delta(tensors)) for use, tensors in read]
            if own := [(use, bias) for use, bias in biases if bias is not None]:
                ((bias_name, base),) = self._bases(part, module, [f"{path}.bias"])
                touched.append(bias_name)
                _add(parameters[bias_name], base, own)

    def _bases(self, part: str, module: nn.Module, names: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        """The weights before any change, in float32: themselves, or read from the file if they have fewer bits here."""
        parameters, streamed = dict(module.named_parameters()), layers.of(module)
        empty = [name for name in names if parameters[name].is_meta]
        for name in empty:
            assert streamed is not None
            yield name, streamed.base(name)
        names = [name for name in names if name not in empty]
        narrow = [name for name in names if parameters[name].dtype != torch.float32]
        for name in names:
            if parameters[name].dtype == torch.float32:
                yield name, parameters[name].detach()
        for name, stored in self._read(part, narrow) if narrow else ():
            weight = parameters[name]
            yield name, stored.to(weight.device, torch.float32).reshape(weight.shape)

    def _branch(
        self, part: str, module: nn.Module, uses: Mapping[str, Sequence[Use]], patched: list[Any]
    ) -> None:
        for name, base in self._bases(part, module, [f"{path}.weight" for path in uses]):
            layer: Any = module.get_submodule(name.removesuffix(".weight"))
            branches = [
                (use, branch(layer, use, tensors_of(use, base.device), base))
                for use in uses[name.removesuffix(".weight")]
            ]
            layer.forward = self._beside(layer.forward, branches)
            patched.append(layer)

    def _beside(
        self, forward: Callable[[Tensor], Tensor], branches: Sequence[tuple[Use, Callable[[Tensor], Tensor]]]
    ) -> Callable[[Tensor], Tensor]:
        """The module's own answer, and those of the branches that act at the noise level of the call."""

        def call(x: Tensor) -> Tensor:
            out = forward(x)
            for use, beside in branches:
                if holds(steps_between(*use.steps, self._levels), self._sigma):
                    out = out + beside(x)
            return out

        return call


def lora(uses: Sequence[Use], read: ReadWeights) -> Adapter:
    """Changes of a network's weights by LoRA files and their kin, undone bit for bit; `Loras` says how."""
    return Loras(uses, read).adapted


def _merge_when_filled(module: nn.Module, uses: Mapping[str, Sequence[Use]]) -> None:
    """Let the layers that hold weights only while they run be changed whenever they are filled."""
    streamed = layers.of(module)
    for path, own in uses.items():
        assert streamed is not None
        streamed.changes[f"{path}.weight"] = partial(changed, own)
        with_bias = [
            use for use in own if deltas.bias_delta(tensors_of(use, torch.device("cpu"))) is not None
        ]
        if with_bias:
            streamed.changes[f"{path}.bias"] = partial(changed_bias, with_bias)


def _add(parameter: nn.Parameter, base: Tensor, changes: Iterable[tuple[Use, Tensor]]) -> None:
    """Set a parameter to base + the sum of strength * change, added in their order in float32; base is overwritten."""
    with torch.inference_mode():
        with_changes(base, changes)
        if base.data_ptr() != parameter.data_ptr():
            parameter.copy_(base)


def _set(parameter: nn.Parameter, values: Tensor) -> None:
    """Write values into a parameter, in its own dtype and where it is."""
    with torch.inference_mode():
        parameter.copy_(values.reshape(parameter.shape))
