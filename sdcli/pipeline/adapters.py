"""Adapters: what alters the networks while a job's picture is drawn."""

from __future__ import annotations

from dataclasses import dataclass

from sdcli import registry
from sdcli.diffusion.unet_call import See, UNetCall
from sdcli.models.model import Model
from sdcli.models.offload import Adapter
from sdcli.request.job import Job


@dataclass(frozen=True)
class JobAdapters:
    """The adapters of a job, entered in their order, and those of them that are told of each call of the U-Net."""

    adapters: tuple[Adapter, ...] = ()
    watchers: tuple[See, ...] = ()

    def see(self, call: UNetCall) -> None:
        """Tell the watchers of a call of the U-Net."""
        for watcher in self.watchers:
            watcher(call)

    def __add__(self, other: JobAdapters) -> JobAdapters:
        return JobAdapters(self.adapters + other.adapters, self.watchers + other.watchers)


def adapters_of(model: Model, job: Job) -> JobAdapters:
    """What alters the model's networks while the job is done; nothing if the job asks for nothing."""
    return _seamless(job)


def _seamless(job: Job) -> JobAdapters:
    return (
        JobAdapters()
        if job.tile == "none"
        else JobAdapters((registry.find("adapters", "seamless")(job.tile),))
    )
