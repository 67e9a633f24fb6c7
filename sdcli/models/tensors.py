"""Tensors: a component's weights, read from its safetensors files as they are stored there."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sdcli.checkpoints.component import Component
from sdcli.checkpoints.header import Entry
from sdcli.errors import ModelError

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
"""The format's names of the dtypes that weights may be stored in."""

NUMBERS = DTYPES | {
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Those of single tensors, which may be flags or counts."""

MAPPED = (
    256 * 2**20
)  # bytes read through one mapping of a file, whose pages count as used memory until it is closed


def read_tensors(component: Component) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a component by their names in the network, in the order of the files; raises ModelError."""
    assert component.header is not None
    entries = {name: component.header.tensors[source.key] for name, source in component.sources.items()}
    waiting = sorted(entries, key=lambda name: (entries[name].path, entries[name].start))
    while waiting:
        batch = _mapped_together(waiting, entries)
        waiting = waiting[len(batch) :]
        path = entries[batch[0]].path
        try:
            with safe_open(path, framework="pt") as file:
                for name in batch:
                    yield name, taken(component, name, file.get_tensor(entries[name].name))
        except (SafetensorError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"{path}: cannot be read ({reason}); fetch it again") from None


def read_tensor(component: Component, name: str) -> Tensor:
    """One tensor of a component. It is read, not mapped, so that it costs its own size and no more."""
    assert component.header is not None
    return taken(component, name, read_entry(component.entry(name)))


def read_entry(entry: Entry) -> Tensor:
    """One tensor of a file, as it is stored; raises ModelError if the file cannot be read."""
    dtype = NUMBERS[entry.dtype]
    try:
        with open(entry.path, "rb") as file:
            file.seek(entry.start)
            data = bytearray(entry.end - entry.start)
            count = file.readinto(data)
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise ModelError(f"{entry.path}: cannot be read: {reason}") from None
    if count != len(data):
        raise ModelError(f"{entry.path}: was cut while it was read; fetch it again")
    stored = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
    return stored.reshape(entry.shape)


def all_finite(tensor: Tensor) -> bool:
    """True if every value is finite.

    The sum is tested first because it is ten times faster; if it overflows, each value is tested.
    """
    tensor = tensor.float() if tensor.dtype.itemsize == 1 else tensor  # torch cannot sum 8-bit floats
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


def _mapped_together(names: list[str], entries: dict[str, Entry]) -> list[str]:
    """The first of these names whose tensors lie in the same file, within MAPPED bytes."""
    first = entries[names[0]]
    return [
        name
        for name in names
        if entries[name].path == first.path and entries[name].start < first.start + MAPPED
    ]


def taken(component: Component, name: str, tensor: Tensor) -> Tensor:
    """What a network takes of a stored tensor: all, its transpose, or one third of its rows, scaled if it is so."""
    source = component.sources[name]
    take = source.take
    if source.scale:
        tensor = tensor.float() * component.scale(name)
    if take == "all":
        return tensor
    # laid out as a tensor that is stored so, or a file and a folder would differ in the last bits of a picture
    return tensor.T.contiguous() if take == "transpose" else tensor.chunk(3)[int(take[-1])]
