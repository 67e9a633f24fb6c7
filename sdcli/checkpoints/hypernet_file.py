"""Hypernet file: a hypernetwork: small networks that change the context from which attention takes keys and values.

A1111 trains them, and writes a pickle. Read here is the same as safetensors: the tensors `WIDTH.0.linear.I.weight` and
`.bias` for keys and `WIDTH.1.…` for values, and all else as JSON in the metadata. Names and shapes are read from the
header; no torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdcli.checkpoints import header
from sdcli.checkpoints.component import Component, listing
from sdcli.checkpoints.header import FLOATS, Header
from sdcli.checkpoints.keys.types import Source
from sdcli.errors import ModelError
from sdcli.registry import nearest

ACTIVATIONS = (
    "linear", "relu", "leakyrelu", "elu", "swish", "tanh", "sigmoid",
    "celu", "gelu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "logsigmoid", "mish", "relu6", "rrelu",
    "selu", "silu", "softplus", "softshrink", "softsign", "tanhshrink",
)  # fmt: skip
"""A1111's seven, and torch's others that act on each value alone; any that needs weights or options is refused."""

TRAINED_FOR = {768: "SD 1", 1024: "SD 2", 2048: "SDXL"}
"""Width of the text that cross-attention reads -> the models that read it."""

_HALVES = ("keys", "values")
_NAME = re.compile(r"(?P<width>[1-9]\d{0,5})\.(?P<half>[01])\.(?P<rest>.+)", re.ASCII)
_OLD = {"linear1.": "linear.0.", "linear2.": "linear.1."}
"""How the layers were named before they were a list."""
_HARMLESS = (
    "name", "step", "weight_initialization", "sd_checkpoint", "sd_checkpoint_name", "optional_info", "format",
    "use_dropout", "last_layer_dropout",
)  # fmt: skip
"""Metadata that do not change what a hypernetwork does once it is trained; dropout only moves the layers' numbers."""
METADATA = (
    "layer_structure", "activation_func", "activate_output", "is_layer_norm", "dropout_structure", *_HARMLESS,
)  # fmt: skip
"""The metadata that a hypernetwork may have."""


@dataclass(frozen=True)
class Layer:
    """One layer with weights: `linear` or `norm`, its number in the network, and its input and output width."""

    kind: str
    number: int
    inputs: int
    outputs: int
    activates: bool = False  # the activation follows it

    def shapes(self, prefix: str) -> dict[str, tuple[int, ...]]:
        """The shapes of its tensors by their names."""
        weight = (self.outputs, self.inputs) if self.kind == "linear" else (self.outputs,)
        name = f"{prefix}.linear.{self.number}"
        return {f"{name}.weight": weight, f"{name}.bias": (self.outputs,)}


@dataclass(frozen=True)
class HypernetFile:
    """What the header of a hypernetwork says: the widths of the contexts that it changes, and its layers."""

    name: str
    path: Path
    widths: tuple[int, ...]
    structure: tuple[float, ...]  # width of each layer as a multiple of the context's
    activation: str
    activates_output: bool
    has_norms: bool
    dropout: tuple[float, ...]  # only moves the layers' numbers
    component: Component

    @property
    def trained_for(self) -> str:
        """The models it is for, such as `SD 1`; empty if it changes no cross-attention of theirs."""
        return " and ".join(TRAINED_FOR[width] for width in self.widths if width in TRAINED_FOR)

    def layers(self, width: int) -> list[Layer]:
        """The layers with weights, in their order, for contexts of this width."""
        layers, number, last = [], 0, len(self.structure) - 2
        for i in range(last + 1):
            inputs, outputs = (int(width * factor) for factor in self.structure[i : i + 2])
            activates = self.activation != "linear" and (i < last or self.activates_output)
            layers.append(Layer("linear", number, inputs, outputs, activates))
            number += 1 + activates
            if self.has_norms:
                layers.append(Layer("norm", number, outputs, outputs))
                number += 1
            number += self.dropout[i + 1] > 0
        return layers


def read_header(path: Path) -> HypernetFile:
    """What a hypernetwork is, by its header.

    Raises ModelError if the file is none, if its metadata are not understood, or if it lacks a tensor or has one more.
    """
    if not path.exists():
        raise ModelError(f"{path}: there is no such hypernetwork; check the path")
    head = header.read(path)
    sources = _sources(head)
    widths = tuple(sorted({int(name.partition(".")[0]) for name in sources}))
    if not widths:
        count = listing(list(head.tensors)) if head.tensors else "no tensors"
        raise ModelError(f"{path}: has {count}, and is no hypernetwork; it would have 768.0.linear.0.weight")
    structure = _structure(head)
    found = HypernetFile(
        name=path.stem,
        path=path,
        widths=widths,
        structure=structure,
        activation=_activation(head),
        activates_output=bool(_value(head, "activate_output", True, bool)),
        has_norms=bool(_value(head, "is_layer_norm", False, bool)),
        dropout=_dropout(head, len(structure)),
        component=Component({}, head, sources),
    )
    _check_metadata(head)
    _check_tensors(found)
    return found


def is_hypernet(path: Path) -> bool:
    """True for a file that can be nothing but a hypernetwork, whole or damaged."""
    try:
        return bool(_sources(header.read(path)))
    except ModelError:
        return False


def _sources(head: Header) -> dict[str, Source]:
    """The tensors by their names; none if the file is no hypernetwork."""
    names = {_current_name(key): Source(key) for key in head.tensors}
    is_hypernet = len(names) == len(head.tensors) and all(map(_NAME.fullmatch, names))
    return names if is_hypernet else {}


def _current_name(key: str) -> str:
    found = _NAME.fullmatch(key)
    old = next((each for each in _OLD if found and found["rest"].startswith(each)), None)
    if found is None or old is None:
        return key
    return f"{found['width']}.{found['half']}.{_OLD[old]}{found['rest'].removeprefix(old)}"


# --- metadata


def _structure(head: Header) -> tuple[float, ...]:
    found = _value(head, "layer_structure", [1, 2, 1], list)
    if not (
        2 <= len(found) <= 32
        and all(_is_number(each) and 0 < each <= 64 for each in found)
        and found[0] == found[-1] == 1
    ):
        raise _not_understood(head, "layer_structure", "it is a list such as [1, 2, 1]")
    return tuple(found)


def _activation(head: Header) -> str:
    word = _value(head, "activation_func", None, str)
    word = "linear" if word is None else word.lower()
    if word not in ACTIVATIONS:
        raise _not_understood(head, "activation_func", nearest(word[:40], ACTIVATIONS))
    return word


def _dropout(head: Header, layers: int) -> tuple[float, ...]:
    """The share that training dropped behind each layer: listed, or 0.3 within the network if dropout was used."""
    found = _value(head, "dropout_structure", None, list)
    if found is None:
        within = [0.3] * max(0, layers - 3)
        last = 0.3 if _value(head, "last_layer_dropout", False, bool) else 0
        uses = _value(head, "use_dropout", False, bool)
        found = [0, *within, last, 0][-layers:] if uses else [0] * layers
    if len(found) != layers or not all(_is_number(each) and 0 <= each < 1 for each in found):
        raise _not_understood(head, "dropout_structure", "it has a share, 0 to 1, for each layer")
    return tuple(found)


def _value(head: Header, key: str, default: Any, kind: type) -> Any:
    """The metadata of this key, which are JSON; the default where they are missing or null."""
    if key not in head.metadata:
        return default
    try:
        value = json.loads(head.metadata[key])
    except (ValueError, RecursionError):
        value = head.metadata[key]  # a word without quotes
    if value is None:
        return default
    if kind is bool and value in (0, 1):
        return bool(value)
    if not isinstance(value, kind):
        raise _not_understood(head, key, f"it is of the type {kind.__name__}")
    return value


def _check_metadata(head: Header) -> None:
    for key in head.metadata:
        if key not in METADATA:
            raise ModelError(
                f"{head.path}: the metadata {key[:40]!r} are unknown in a hypernetwork; known are: "
                f"{', '.join(METADATA)}"
            )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _not_understood(head: Header, key: str, advice: str) -> ModelError:
    return ModelError(f"{head.path}: {key} is {head.metadata[key][:60]!r}; {advice}")


# --- tensors


def _check_tensors(found: HypernetFile) -> None:
    """Raise ModelError for a tensor that is missing, surplus, misshapen, or stored as what is no float."""
    needed: Mapping[str, tuple[int, ...]] = {
        name: shape
        for width in found.widths
        for half in range(len(_HALVES))
        for layer in found.layers(width)
        for name, shape in layer.shapes(f"{width}.{half}").items()
    }
    component = found.component
    missing = [name for name in needed if name not in component.sources]
    surplus = [name for name in component.sources if name not in needed]
    for names, fault in ((missing, "missing"), (surplus, "too many")):
        if names:
            raise ModelError(f"{found.path}: {listing(names)} {fault}; its metadata tell of other layers")
    for name, shape in needed.items():
        entry = component.entry(name)
        if entry.shape != shape:
            raise ModelError(
                f"{found.path}: {name} is {list(entry.shape)}, not {list(shape)}; its metadata tell of other layers"
            )
        if entry.dtype not in FLOATS:
            raise ModelError(
                f"{found.path}: {name} is stored as {entry.dtype}, which no hypernetwork is; fetch it again"
            )
