"""LoRAs of a job: what each of its files does to the modules of a model."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sdcli.adapters.deltas.uses import Use
from sdcli.adapters.lora import Loras
from sdcli.checkpoints import hashes, lora_file
from sdcli.checkpoints.keys.adapters import Module, ldm_path
from sdcli.checkpoints.named_files import numbered
from sdcli.checkpoints.tensor_shapes import Shapes
from sdcli.models.model import Model
from sdcli.request.job import Job
from sdcli.request.loras import Lora

_BLOCK = re.compile(r"(input|output)_blocks\.(\d+)\.|(middle)_block\.")


def loras_of(model: Model, job: Job) -> Loras:
    """The adapter of a job's LoRAs; raises ModelError for a file that is bad, or made for other models."""
    shapes = {
        part: {name: list(tensor.shape) for name, tensor in module.state_dict().items()}
        for part, module in model.networks.modules.items()
    }
    uses = [use for each in job.lora for use in _uses(each, model.name, shapes, job.allow_partial)]
    return Loras(uses, model.networks.stored)


def _uses(lora: Lora, name: str, shapes: Mapping[str, Shapes], allow_partial: bool) -> Iterator[Use]:
    path = Path(lora.path)
    found, _ = lora_file.changes(lora_file.read_header(path), name, shapes, allow_partial)
    digest = hashes.digest([path])
    for change in found:
        strength = lora.strength(change.module.part, block_of(change.module, shapes["unet"]))
        yield Use(change, strength, digest, (lora.start, lora.end), lora.rank)


def block_of(module: Module, names: Collection[str]) -> str:
    """The block of a U-Net that a module is in: IN00, MID, OUT11, …; empty for one that is in none."""
    match = _BLOCK.match(ldm_path(module.path, names)) if module.part == "unet" else None
    if match is None:
        return ""
    return "MID" if match[3] else f"{'IN' if match[1] == 'input' else 'OUT'}{int(match[2]):02}"


def facts(loras: Sequence[Lora]) -> dict[str, dict[str, Any]]:
    """Of each LoRA by its name: its file's name, its sha256, and the hash that A1111 knows it by."""
    return {
        name: {"file": path.name, "sha256": hashes.digest([path]), "autov3": hashes.without_header(path)[:12]}
        for name, path in numbered(each.path for each in loras).items()
    }
