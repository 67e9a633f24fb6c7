"""Adapters: what alters the networks while a job's picture is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdcli import registry
from sdcli.adapters.deepcache import DeepCache
from sdcli.adapters.hypernet import hypernet
from sdcli.adapters.reference import ReferenceFeatures
from sdcli.adapters.tome import TokenMerging
from sdcli.checkpoints import hypernets, upscaler_file
from sdcli.checkpoints import ip_adapters as ip_adapter_files
from sdcli.diffusion.unet_call import See, UNetCall
from sdcli.models.memory import memory_errors
from sdcli.models.model import Model
from sdcli.models.offload import Adapter
from sdcli.pipeline import controls, embeddings, ip_adapters, loras
from sdcli.pipeline.freeu import check_freeu, freeu_of
from sdcli.pipeline.reference import features_of
from sdcli.request.inputs import InputImages
from sdcli.request.job import Job

Begin = Callable[[Sequence[float]], None]
"""Told of each run before it, by the noise levels that it visits."""


@dataclass(frozen=True)
class JobAdapters:
    """The adapters of a job, entered in their order, and who is told of its runs.

    `beginners` are told the noise levels of each run, `watchers` of each call of the U-Net. `reference` holds the
    features of a reference picture, if there is one.
    """

    adapters: tuple[Adapter, ...] = ()
    watchers: tuple[See, ...] = ()
    beginners: tuple[Begin, ...] = ()
    reference: ReferenceFeatures | None = None

    def begin(self, levels: Sequence[float]) -> None:
        """Tell the beginners that a run begins that visits these noise levels."""
        for beginner in self.beginners:
            beginner(levels)

    def see(self, call: UNetCall) -> None:
        """Tell the watchers of a call of the U-Net."""
        for watcher in self.watchers:
            watcher(call)

    def __add__(self, other: JobAdapters) -> JobAdapters:
        return JobAdapters(
            self.adapters + other.adapters,
            self.watchers + other.watchers,
            self.beginners + other.beginners,
            self.reference or other.reference,
        )


def adapters_of(model: Model, job: Job, inputs: InputImages) -> JobAdapters:
    """What alters the model's networks while the job is done; nothing if the job asks for nothing."""
    parts = (
        _seamless(job),
        _loras(model, job),
        _hypernets(model, job),
        _ip_adapters(model, job, inputs),
        _reference(job),
        _freeu(model, job),
        _tome(job),  # behind the reference, which is then given the merged tokens
        _deepcache(job),
    )
    return sum(parts, JobAdapters())


def facts_of(job: Job) -> dict[str, Any]:
    """What the metadata of a picture say of the files that alter the networks: kind -> name -> file and sha256."""
    found = {
        "loras": loras.facts(job.lora),
        "embeddings": embeddings.facts(job.embedding),
        "controls": controls.facts(job.controls),
        "hypernets": hypernets.facts(job.hypernet),
        "ip_adapters": ip_adapter_files.facts(job.ip_adapter),
        "upscalers": upscaler_file.facts(Path(upscaler)) if (upscaler := job.hires.hires_upscaler) else {},
    }
    return {kind: facts for kind, facts in found.items() if facts}


def _loras(model: Model, job: Job) -> JobAdapters:
    if not job.lora:
        return JobAdapters()
    found = loras.loras_of(model, job)
    return JobAdapters((found.adapted,), (found.see,), (found.begin,))


def _hypernets(model: Model, job: Job) -> JobAdapters:
    files = hypernets.read_fitting(model.name, model.configs["unet"], job.hypernet)
    return JobAdapters(tuple(hypernet(file, strength) for file, strength in files))


def _ip_adapters(model: Model, job: Job, inputs: InputImages) -> JobAdapters:
    if not job.ip_adapter:
        return JobAdapters()
    with memory_errors("encoding the picture of --ip-adapter"):
        found = ip_adapters.ip_adapters_of(model, job, inputs.ip_adapter_pictures)
    return JobAdapters((found.adapted,), (found.see,), (found.begin,))


def _reference(job: Job) -> JobAdapters:
    found = features_of(job)
    return JobAdapters() if found is None else JobAdapters((found.adapted,), (found.see,), (), found)


def _freeu(model: Model, job: Job) -> JobAdapters:
    check_freeu(job, model.name, model.configs["unet"])
    found = freeu_of(job, model.family.name)
    return JobAdapters() if found is None else JobAdapters((found,))


def _tome(job: Job) -> JobAdapters:
    if not job.tome:
        return JobAdapters()
    found = TokenMerging(job.tome, job.seed)
    return JobAdapters((found.adapted,), (found.see,))


def _deepcache(job: Job) -> JobAdapters:
    if job.deepcache == 1:
        return JobAdapters()
    found = DeepCache(job.deepcache)
    return JobAdapters((found.adapted,), (found.see,), (found.begin,))


def _seamless(job: Job) -> JobAdapters:
    return (
        JobAdapters()
        if job.tile == "none"
        else JobAdapters((registry.find("adapters", "seamless")(job.tile),))
    )
