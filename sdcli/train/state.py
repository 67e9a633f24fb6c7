"""State: where a training stands, in one file, so that a training that was killed goes on to the same result."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdcli import store
from sdcli.checkpoints import header
from sdcli.errors import ModelError, UsageError

NAME = "state.safetensors"
_SETTINGS, _SCALARS, _LOSSES = "sdcli.training", "sdcli.optimizer", "losses"


@dataclass(frozen=True)
class State:
    """What is learned after some steps: the loss of each, the tensors by name, and the optimizer's state_dict."""

    losses: Sequence[float]
    parameters: Mapping[str, Any]
    optimizer: Mapping[str, Any]


def check_same(path: Path, record: Mapping[str, Any]) -> int:
    """The steps that the state in this file has gone, by its header; 0 if there is no such file.

    Raises UsageError if it is of a training with other settings than `record`, and ModelError if it is damaged.
    """
    if not path.exists():
        return 0
    found = header.read(path)
    try:
        own = json.loads(found.metadata[_SETTINGS])
        steps = found.tensors[_LOSSES].shape[0]
    except (KeyError, ValueError, IndexError):
        raise ModelError(f"{path}: is no state of a training; remove it to begin anew") from None
    for key in {**own, **record}:
        if own.get(key) != record.get(key):
            raise UsageError(
                f"{path.parent}: a training with another {key.replace('_', ' ')} was broken off there ({own.get(key)}, "
                f"now {record.get(key)}); give the same to go on, or remove the folder, or name another -o"
            )
    return int(steps)


def save(state: State, record: Mapping[str, Any], path: Path) -> None:
    """Write the state over the last one, at once; raises WriteError."""
    import torch
    from safetensors.torch import save as to_bytes

    tensors = {f"parameter.{name}": tensor for name, tensor in state.parameters.items()}
    tensors[_LOSSES] = torch.tensor(state.losses, dtype=torch.float64)
    scalars: dict[str, Any] = {"groups": state.optimizer["param_groups"], "state": {}}
    for i, values in state.optimizer["state"].items():
        for key, value in values.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer.{i}.{key}"] = value
            else:
                scalars["state"].setdefault(str(i), {})[key] = value
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    metadata = {_SETTINGS: json.dumps(record), _SCALARS: json.dumps(scalars)}
    store.replace(to_bytes(plain, metadata), path)


def read(path: Path) -> State:
    """The state in a file that `check_same` has passed; raises ModelError if its values cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            scalars = json.loads(file.metadata()[_SCALARS])
    except (SafetensorError, OSError, KeyError, ValueError):
        raise ModelError(f"{path}: is damaged; remove it to begin anew") from None
    parameters = {
        key.removeprefix("parameter."): each for key, each in tensors.items() if key.startswith("parameter.")
    }
    values: dict[int, dict[str, Any]] = {int(i): dict(own) for i, own in scalars["state"].items()}
    for key, each in tensors.items():
        if key.startswith("optimizer."):
            _, i, name = key.split(".", 2)
            values.setdefault(int(i), {})[name] = each
    return State(tensors[_LOSSES].tolist(), parameters, {"state": values, "param_groups": scalars["groups"]})
