"""Adapters fit: whether a model can take all the adapters of a job, by their headers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sdcli.checkpoints import hypernets, ip_adapters, lora_file
from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.checkpoints.component import listing
from sdcli.checkpoints.control_fit import check_controls
from sdcli.checkpoints.distilled import hint
from sdcli.checkpoints.embeddings import check_fit
from sdcli.checkpoints.lora_file import check_blocks, check_loras
from sdcli.request.job import Job
from sdcli.request.request import Request


def check_adapters(found: Checkpoint, job: Job, request: Request) -> list[str]:
    """Notes for the user on the adapters of a job, whose request they were asked for in.

    Raises UsageError and ModelError for an adapter that this model cannot take.
    """
    check_blocks(found.family.name, job.lora)
    left = check_loras(found, [lora.path for lora in job.lora], job.allow_partial)
    check_fit(found, job.embedding, [lora.path for lora in job.lora])
    check_controls(found, job.controls)
    hypernets.check_fit(found, job.hypernet)
    ip_adapters.check_fit(found, job.ip_adapter)
    return list(_lora_notes(left, request))


def _lora_notes(left: Mapping[str, Sequence[str]], asked: Request) -> Iterator[str]:
    """What is to be said of LoRAs: which keys of each file fit nothing in the model, and how the file is used."""
    for path, keys in left.items():
        if keys:
            yield f"{path}: {listing(list(keys))} fit nothing in the model and are left out"
        file = lora_file.read_header(Path(path))
        if line := hint(file.path.name, file.header.metadata, asked):
            yield line
