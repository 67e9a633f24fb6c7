"""Uses: the changes of modules that a job asks for, each with its strength, steps and ranks, and their tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sdcli.adapters import deltas
from sdcli.adapters.deltas.scale import scale
from sdcli.checkpoints.header import Entry
from sdcli.checkpoints.lora_file import Change
from sdcli.errors import ModelError
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


def added_up(uses: Sequence[Use]) -> list[Use]:
    """The same uses; those of one file for one module, in the same steps, as one with the sum of their strengths."""
    found: dict[Any, Use] = {}
    for use in uses:
        key = (use.digest, use.change.module, use.steps, use.rank)
        strength = use.strength + (found[key].strength if key in found else 0.0)
        found[key] = replace(use, strength=strength)
    return list(found.values())


def by_module(uses: Sequence[Use]) -> dict[str, list[Use]]:
    """Path of a module in its network -> the uses that change it."""
    found: dict[str, list[Use]] = {}
    for use in uses:
        found.setdefault(use.change.module.path, []).append(use)
    return found


def tensors_of(use: Use, device: torch.device) -> dict[str, Tensor]:
    """The tensors of a change in float32; raises ModelError if a value is not finite."""
    tensors = {suffix: _read(entry).to(device) for suffix, entry in use.change.tensors.items()}
    if use.change.scale is not None:
        tensors["scale"] = torch.tensor(use.change.scale)
    return _first_ranks(tensors, use.rank) if use.rank else tensors


def delta_of(use: Use, tensors: Mapping[str, Tensor], base: Tensor) -> Tensor:
    """W' - W at strength 1, in float32; raises ModelError, with the file's name, if the tensors do not fit."""
    try:
        return deltas.delta(use.change.kind, tensors, base)
    except ModelError as error:
        entry = next(iter(use.change.tensors.values()))
        raise ModelError(f"{entry.path}: {use.change.module.path}: {error}") from None


def changed(uses: Sequence[Use], base: Tensor) -> Tensor:
    """base + the sum of strength * change, in float32; base is overwritten."""
    return with_changes(base, [(use, delta_of(use, tensors_of(use, base.device), base)) for use in uses])


def changed_bias(uses: Sequence[Use], base: Tensor) -> Tensor:
    """A bias + the sum of strength * change, in float32; base is overwritten."""
    biases = [(use, deltas.bias_delta(tensors_of(use, base.device))) for use in uses]
    return with_changes(base, [(use, bias) for use, bias in biases if bias is not None])


def with_changes(base: Tensor, changes: Iterable[tuple[Use, Tensor]]) -> Tensor:
    """Add strength * change to base, in their order."""
    for use, change in changes:
        base.add_(change.reshape(base.shape), alpha=use.strength)
    return base


def _read(entry: Entry) -> Tensor:
    tensor = read_entry(entry)
    tensor = tensor.float() if tensor.is_floating_point() else tensor
    if not all_finite(tensor):
        raise ModelError(f"{entry.path}: {entry.name[:80]} has values that are not finite; fetch it again")
    return tensor


def _first_ranks(tensors: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """A plain LoRA with its first ranks only, at the scale of all of them; other kinds as they are (A1111's `dyn`)."""
    if not {"up", "down"} <= tensors.keys() or "mid" in tensors:
        return dict(tensors)
    kept = {"up": tensors["up"][:, :count], "down": tensors["down"][:count]}
    return {**tensors, **kept, "scale": torch.tensor(scale(tensors)), "scalar": torch.ones(())}
