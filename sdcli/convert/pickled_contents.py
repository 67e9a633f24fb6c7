"""Pickled contents: what the objects of a pickled file are as safetensors: tensors by name, and metadata.

Told apart are A1111's hypernetworks and embeddings, IP-Adapters, and all else, which are tensors by their names, often
one level down (`state_dict`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sdcli.checkpoints.hypernet_file import METADATA
from sdcli.errors import ModelError
from sdcli.models.tensors import NUMBERS

NESTED = ("state_dict", "model_state_dict", "params_ema", "params", "model")
"""Keys under which a file has its tensors; the first that is there counts."""
MAX_NESTING = 4
SHOWN = 8  # names in a note

_IP_ADAPTER = {"image_proj", "ip_adapter"}
_EMBEDDING_FACTS = ("name", "step", "sd_checkpoint", "sd_checkpoint_name")
_OLD_LAYERS = {"linear1.": "linear.0.", "linear2.": "linear.1."}
"""How the layers of a hypernetwork were named before they were a list."""


class KeptParameters:
    """Stands for torch's ParameterDict, in which old embeddings have their tensor; only its tensors are kept."""

    entries: Mapping[str, Any]

    def __new__(cls, *_: object) -> KeptParameters:
        """An empty one."""
        made = super().__new__(cls)
        made.entries = {}
        return made

    def __setstate__(self, state: object) -> None:
        """Take over the parameters of the object's state."""
        found = state.get("_parameters") if isinstance(state, dict) else None
        self.entries = found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Contents:
    """What is written: tensors by their keys, metadata, and notes on what is left out."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def contents(loaded: Any) -> Contents:
    """What a loaded pickle is as safetensors; raises ModelError if it has no tensors by name, or unusual ones."""
    if not isinstance(loaded, dict):
        raise ModelError(
            f"holds a {type(loaded).__name__}, and no tensors by their names; it is not converted"
        )
    if any(_is_width(key, value) for key, value in loaded.items()):
        found = _hypernet(loaded)
    elif "string_to_param" in loaded:
        found = _embedding(loaded)
    elif loaded and loaded.keys() <= _IP_ADAPTER:
        found = _ip_adapter(loaded)
    else:
        found = _by_name(loaded)
    if not found.tensors:
        raise ModelError(f"holds no tensors, but {_listed(loaded) or 'nothing'}; it is not converted")
    for key, tensor in found.tensors.items():
        _check(key, tensor)
    return found


def _check(key: str, tensor: Tensor) -> None:
    """Raise ModelError for a tensor that safetensors cannot hold."""
    reason = ""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        reason = "is sparse, quantized, or has no values"
    elif tensor.dtype not in NUMBERS.values():
        reason = f"is stored as {str(tensor.dtype).removeprefix('torch.')}"
    elif type(tensor) not in (Tensor, torch.nn.Parameter):
        reason = f"is a {type(tensor).__name__}"
    if reason:
        raise ModelError(f"the tensor {key[:80]!r} {reason}, which is not converted")
    if key == "__metadata__" or any(0xD800 <= ord(letter) < 0xE000 for letter in key):
        raise ModelError(
            f"the tensor {key[:80]!a} has a name that safetensors cannot hold; it is not converted"
        )


def _by_name(loaded: Mapping[Any, Any]) -> Contents:
    left_out: list[object] = []
    for _ in range(MAX_NESTING):
        nested = next((key for key in NESTED if isinstance(loaded.get(key), dict) and loaded[key]), None)
        if nested is None:
            break
        left_out += [key for key in loaded if key != nested]
        loaded = loaded[nested]
    tensors = {
        key: value for key, value in loaded.items() if isinstance(key, str) and isinstance(value, Tensor)
    }
    left_out += [key for key in loaded if key not in tensors]
    return Contents(tensors, {}, _left_out(left_out))


def _ip_adapter(loaded: Mapping[str, Any]) -> Contents:
    tensors, left_out = {}, []
    for part, values in loaded.items():
        for key, value in values.items() if isinstance(values, dict) else [("", values)]:
            if isinstance(value, Tensor) and isinstance(key, str):
                tensors[f"{part}.{key}"] = value
            else:
                left_out.append(f"{part}.{key}")
    return Contents(tensors, {}, _left_out(left_out))


def _embedding(loaded: Mapping[Any, Any]) -> Contents:
    """A1111's: {"string_to_param": {"*": vectors}, "name": …, "step": …}."""
    given = loaded["string_to_param"]
    named = given.entries if isinstance(given, KeptParameters) else given
    vectors = (
        [value for value in named.values() if isinstance(value, Tensor)] if isinstance(named, dict) else []
    )
    if len(vectors) != 1:
        raise ModelError(f"an embedding of {len(vectors)} words, and one word is read; it is not converted")
    facts = {
        key: str(loaded[key]) for key in _EMBEDDING_FACTS if isinstance(loaded.get(key), str | int | float)
    }
    others = [key for key in loaded if key not in ("string_to_param", *facts) and loaded[key] is not None]
    return Contents({"emb_params": vectors[0]}, facts, _left_out(others))


# --- hypernetworks


def _is_width(key: object, value: object) -> bool:
    return (
        type(key) is int
        and isinstance(value, tuple | list)
        and len(value) == 2
        and all(isinstance(half, dict) for half in value)
    )


def _hypernet(loaded: Mapping[Any, Any]) -> Contents:
    """A1111's: {768: (tensors for keys, tensors for values), "layer_structure": …}."""
    tensors, metadata, left_out = {}, {}, []
    for key, value in loaded.items():
        if _is_width(key, value):
            for half, layers in enumerate(value):
                for name, tensor in layers.items():
                    if not isinstance(tensor, Tensor):
                        left_out.append(f"{key}.{half}.{name}")
                        continue
                    tensors[f"{key}.{half}.{_current_layer(str(name))}"] = tensor
        elif key in METADATA and _is_setting(value):
            metadata[key] = json.dumps(value)
        else:
            left_out.append(key)
    return Contents(tensors, metadata, _left_out(left_out))


def _current_layer(name: str) -> str:
    old = next((each for each in _OLD_LAYERS if name.startswith(each)), None)
    return _OLD_LAYERS[old] + name.removeprefix(old) if old else name


def _is_setting(value: object) -> bool:
    plain = (str, int, float, bool, type(None))
    return isinstance(value, plain) or (
        isinstance(value, list | tuple) and all(isinstance(each, plain) for each in value)
    )


# --- notes


def _left_out(keys: Iterable[object]) -> list[str]:
    listed = _listed(keys)
    return [f"left out, as they are no weights: {listed}"] if listed else []


def _listed(keys: Iterable[object]) -> str:
    """The first few of some keys."""
    names = [_shown(key) for key in keys]
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _shown(key: object) -> str:
    text = key if isinstance(key, str) else str(key) if isinstance(key, int) else type(key).__name__
    return re.sub(r"[^ -~]", "?", text[:60])
