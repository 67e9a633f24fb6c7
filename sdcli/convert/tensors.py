"""Tensors: those of a checkpoint, under the names of a file to be written, and that file's bytes, piece by piece."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from sdcli.checkpoints.component import Component
from sdcli.checkpoints.family import Config
from sdcli.errors import ModelError
from sdcli.models.build import build_on_meta, build_random
from sdcli.models.tensors import NUMBERS, all_finite, read_tensor

Shapes = Mapping[str, list[int]]
"""Name in the network -> shape."""


def shapes_of(part: str, config: Config, path: Path) -> Shapes:
    """The shapes of the tensors of a network with this config."""
    network = build_on_meta(part, config, str(path))
    return {name: list(tensor.shape) for name, tensor in network.state_dict().items()}


# --- where they come from


class Weights(Protocol):
    """The tensors of one network, by their names in it."""

    def tensor(self, name: str) -> Tensor:
        """One of them."""

    def dtype(self, name: str) -> str:
        """Its dtype, by the name that the safetensors format has for it."""

    def where(self, name: str) -> str:
        """What an error names: its file."""


@dataclass(frozen=True)
class StoredWeights:
    """Those in the files of a component."""

    component: Component

    def tensor(self, name: str) -> Tensor:
        """One of them, read from its file."""
        return read_tensor(self.component, name)

    def dtype(self, name: str) -> str:
        """The dtype that it is stored in."""
        return self.component.dtype(name)

    def where(self, name: str) -> str:
        """The file that it is in."""
        return str(self.component.path(name))


@dataclass(frozen=True)
class RandomWeights:
    """Those of a test model, which are in no file."""

    part: str
    config: Config

    @cached_property
    def _tensors(self) -> dict[str, Tensor]:
        return build_random(self.part, self.config).state_dict()

    def tensor(self, name: str) -> Tensor:
        """One of them, as the test model is drawn with."""
        return self._tensors[name]

    def dtype(self, name: str) -> str:
        """That of all random weights."""
        return "F32"

    def where(self, name: str) -> str:
        """A test model has no file."""
        return "a test model"


def weights_of(part: str, component: Component) -> Weights:
    """The tensors of a component of a checkpoint."""
    return RandomWeights(part, component.config) if component.header is None else StoredWeights(component)


# --- how they are written


@dataclass(frozen=True)
class OutputTensor:
    """One tensor of a file to be written, and the tensors of a network that it is made of.

    Several are stacked along their first axis. A marker, which says something by its key alone, is made of none.
    """

    key: str
    shape: list[int]
    weights: Weights
    names: list[str]
    transpose: bool = False

    def values(self, dtype: torch.dtype) -> Tensor:
        """Its values; raises ModelError if one is not finite in this dtype."""
        stored = [self.weights.tensor(name) for name in self.names]
        converted = [(tensor.T if self.transpose else tensor).to(dtype) for tensor in stored]
        values = torch.cat(converted or [torch.empty(0, dtype=dtype)]).reshape(self.shape).contiguous()
        if not all_finite(values):
            reason = "the file is damaged, fetch it again"
            if all(map(all_finite, stored)):
                reason = f"{str(dtype).removeprefix('torch.')} is too narrow for it, leave out --dtype"
            raise ModelError(f"{self.weights.where(self.names[0])}: {self.key}: not finite; {reason}")
        return values

    def stored_dtype(self) -> str:
        """The dtype that it has in the checkpoint, by the format's name."""
        return self.weights.dtype(self.names[0]) if self.names else "F32"


def safetensors(
    tensors: list[OutputTensor], dtype: torch.dtype | None, metadata: Mapping[str, str] | None = None
) -> Iterator[bytes]:
    """A safetensors file, piece by piece: wider dtypes first, then by key, as the format's own library writes it."""
    format_names = {dtype: name for name, dtype in NUMBERS.items()}
    dtypes = {tensor.key: format_names[dtype] if dtype else tensor.stored_dtype() for tensor in tensors}
    widths = {key: NUMBERS[name].itemsize for key, name in dtypes.items()}
    tensors = sorted(tensors, key=lambda tensor: (-widths[tensor.key], tensor.key))
    header: dict[str, object] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    start = 0
    for tensor in tensors:
        end = start + widths[tensor.key] * math.prod(tensor.shape)
        header[tensor.key] = {
            "dtype": dtypes[tensor.key],
            "shape": tensor.shape,
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text)) + text
    for tensor in tensors:
        values = tensor.values(NUMBERS[dtypes[tensor.key]])
        yield values.flatten().view(torch.uint8).numpy().tobytes()
