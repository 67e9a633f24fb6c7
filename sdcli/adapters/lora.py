"""LoRA and its kin: changes of a network's weights, merged into them, or beside them for some of the steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdcli.adapters import deltas
from sdcli.adapters.deltas.scale import scale
from sdcli.checkpoints import lora_kinds
from sdcli.checkpoints.header import Entry
from sdcli.checkpoints.lora_file import Change
from sdcli.diffusion.step_range import holds, steps_between
from sdcli.diffusion.unet_call import UNetCall
from sdcli.errors import ModelError
from sdcli.models import layers
from sdcli.models.offload import Adapter, ReadWeights
from sdcli.models.tensors import all_finite, read_entry

ALWAYS = (0.0, 1.0)
"""The shares of the steps that are all of them."""


@dataclass(frozen=True)
class Use:
    """A change of one module as a job uses it: how strongly, and in which share of the steps.

    `digest` is the sha256 of its file, `rank` how many of its ranks count, 0 for all.
    """

    change: Change
    strength: float
    digest: str
    steps: tuple[float, float] = ALWAYS
    rank: int = 0


class Loras:
    """The adapter of a job's LoRAs. Those that act in all steps are merged into the weights, so a step costs no more.

    W' = W + the sum of strength * change, computed in float32 from the stored weights and then cast. The changes are
    added in the order of their files' sha256, so the order in which they are named changes no bit. Those that see the
    weight (DoRA, OFT, …) see W itself. On the way out, the weights are read again.

    A change that acts in some steps only is computed beside its module, whose answer it is added to.
    """

    def __init__(self, uses: Sequence[Use], read: ReadWeights) -> None:
        self._uses = sorted(_added_up(uses), key=lambda use: (use.digest, use.steps, use.rank))
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
        merged = _by_module([use for use in own if use.steps == ALWAYS or part != "unet"])
        branches = _by_module([use for use in own if use.steps != ALWAYS and part == "unet"])
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
            read = [(use, _tensors(use, base.device)) for use in uses[path]]
            changes = [(use, _delta(use, tensors, base)) for use, tensors in read]
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
                (use, _branch(layer, use, _tensors(use, base.device), base))
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
            for use, branch in branches:
                if holds(steps_between(*use.steps, self._levels), self._sigma):
                    out = out + branch(x)
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
        streamed.changes[f"{path}.weight"] = partial(_changed, own)
        with_bias = [use for use in own if deltas.bias_delta(_tensors(use, torch.device("cpu"))) is not None]
        if with_bias:
            streamed.changes[f"{path}.bias"] = partial(_changed_bias, with_bias)


def _changed(uses: Sequence[Use], base: Tensor) -> Tensor:
    """base + the sum of strength * change, in float32; base is overwritten."""
    return _sum(base, [(use, _delta(use, _tensors(use, base.device), base)) for use in uses])


def _changed_bias(uses: Sequence[Use], base: Tensor) -> Tensor:
    biases = [(use, deltas.bias_delta(_tensors(use, base.device))) for use in uses]
    return _sum(base, [(use, bias) for use, bias in biases if bias is not None])


def _added_up(uses: Sequence[Use]) -> list[Use]:
    """The same uses; those of one file for one module, in the same steps, as one with the sum of their strengths."""
    found: dict[Any, Use] = {}
    for use in uses:
        key = (use.digest, use.change.module, use.steps, use.rank)
        strength = use.strength + (found[key].strength if key in found else 0.0)
        found[key] = replace(use, strength=strength)
    return list(found.values())


def _by_module(uses: Sequence[Use]) -> dict[str, list[Use]]:
    found: dict[str, list[Use]] = {}
    for use in uses:
        found.setdefault(use.change.module.path, []).append(use)
    return found


def _tensors(use: Use, device: torch.device) -> dict[str, Tensor]:
    """The tensors of a change in float32; raises ModelError if a value is not finite."""
    tensors = {suffix: _read(entry).to(device) for suffix, entry in use.change.tensors.items()}
    if use.change.scale is not None:
        tensors["scale"] = torch.tensor(use.change.scale)
    return _first_ranks(tensors, use.rank) if use.rank else tensors


def _read(entry: Entry) -> Tensor:
    tensor = read_entry(entry)
    tensor = tensor.float() if tensor.is_floating_point() else tensor
    if not all_finite(tensor):
        raise ModelError(f"{entry.path}: {entry.name[:80]} has values that are not finite; fetch it again")
    return tensor


def _delta(use: Use, tensors: Mapping[str, Tensor], base: Tensor) -> Tensor:
    try:
        return deltas.delta(use.change.kind, tensors, base)
    except ModelError as error:
        entry = next(iter(use.change.tensors.values()))
        raise ModelError(f"{entry.path}: {use.change.module.path}: {error}") from None


def _first_ranks(tensors: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """A plain LoRA with its first ranks only, at the scale of all of them; other kinds as they are (A1111's `dyn`)."""
    if not {"up", "down"} <= tensors.keys() or "mid" in tensors:
        return dict(tensors)
    kept = {"up": tensors["up"][:, :count], "down": tensors["down"][:count]}
    return {**tensors, **kept, "scale": torch.tensor(scale(tensors)), "scalar": torch.ones(())}


def _add(parameter: nn.Parameter, base: Tensor, changes: Iterable[tuple[Use, Tensor]]) -> None:
    """Set a parameter to base + the sum of strength * change, added in their order in float32; base is overwritten."""
    with torch.inference_mode():
        _sum(base, changes)
        if base.data_ptr() != parameter.data_ptr():
            parameter.copy_(base)


def _sum(base: Tensor, changes: Iterable[tuple[Use, Tensor]]) -> Tensor:
    for use, change in changes:
        base.add_(change.reshape(base.shape), alpha=use.strength)
    return base


def _set(parameter: nn.Parameter, values: Tensor) -> None:
    """Write values into a parameter, in its own dtype and where it is."""
    with torch.inference_mode():
        parameter.copy_(values.reshape(parameter.shape))


def _branch(layer: Any, use: Use, tensors: Mapping[str, Tensor], base: Tensor) -> Callable[[Tensor], Tensor]:
    """strength * what the change adds to the layer's answer."""
    dtype = layer.weight.dtype
    if lora_kinds.has_low_rank_form(use.change.kind, tensors) and "mid" not in tensors:
        narrow, wide, _, factor = deltas.low_rank(tensors, layer.weight.shape)
        down, up = narrow.to(dtype), (wide * (factor * use.strength)).to(dtype)
        widen = F.conv2d if isinstance(layer, nn.Conv2d) else F.linear
        return lambda x: widen(_answer(layer, down, None, x), up)
    bias = deltas.bias_delta(tensors)
    own_bias = None if bias is None else (bias * use.strength).to(dtype)
    weight = (_delta(use, tensors, base) * use.strength).to(dtype)
    return lambda x: _answer(layer, weight, own_bias, x)


def _answer(layer: Any, weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """The layer's answer with another weight and bias."""
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight, bias)
    if isinstance(layer, nn.Conv2d):
        out: Tensor = layer._conv_forward(x, weight, bias)
        return out
    bias = torch.zeros_like(weight) if bias is None else bias
    if isinstance(layer, nn.LayerNorm):
        return F.layer_norm(x, layer.normalized_shape, weight, bias, layer.eps)
    assert isinstance(layer, nn.GroupNorm)
    return F.group_norm(x, layer.num_groups, weight, bias, layer.eps)
