"""Engine limits: what an engine other than torch cannot do is refused by name before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from sdcli import registry
from sdcli.checkpoints import network_config
from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.errors import UsageError
from sdcli.models.device import Placement
from sdcli.models.engine_networks import engine_networks
from sdcli.request.job import Job

LOOKING_INSIDE = ("pag", "sag")
"""The guidances that alter the U-Net's attention, or look into it."""


def check_engine(engine: str, networks: str, job: Job, attention: Sequence[str]) -> None:
    """Raise UsageError if the engine of this spec cannot draw the job, or the heat maps of these words.

    `networks` is whose network code is asked for; engines take ours.
    """
    name = registry.parse("engines", engine).name
    if name == "torch":
        return
    for option, value in (("--stream", job.request.stream), ("--store", job.request.store != "auto")):
        if value:
            raise UsageError(
                f"--engine {name} keeps weights in its own way; leave {option} out, or use --engine torch"
            )
    refused = alterations(networks, job, attention)
    if refused:
        raise UsageError(
            f"--engine {name} runs the U-Net as a whole, and {' and '.join(refused)} "
            f"{'changes' if len(refused) == 1 else 'change'} its inside; use --engine torch"
        )


def alterations(networks: str, job: Job, attention: Sequence[str] = ()) -> list[str]:
    """The options of a job that alter the U-Net's inside or look into it, so that it cannot be run as a whole."""
    asked = {
        "--networks diffusers": networks != "sdcli",
        "--lora": job.lora,
        "--hypernet": job.hypernet,
        "--control": job.controls,
        "--ip-adapter": job.ip_adapter,
        "--reference": job.reference,
        "--freeu": job.freeu,
        "--tome": job.tome,
        "--deepcache": job.deepcache > 1,
        f"--tile {job.tile}": job.tile != "none",
        f"--guidance {job.guidance.name}": job.guidance.name in LOOKING_INSIDE,
        "--attention": attention,
    }
    return [option for option, is_asked in asked.items() if is_asked]


def check_size(found: Checkpoint, engine: str, placement: Placement, job: Job) -> None:
    """Raise UsageError if the engine is missing, or cannot draw pictures of the job's size; nothing is loaded."""
    by_engine = engine_networks(found, engine, placement, never_loaded)
    if by_engine is None:
        return
    factor = network_config.pixels_per_latent(network_config.settings("vae", found.components["vae"].config))
    window = job.window // factor
    for width, height in ((job.width, job.height), job.second_size):
        rows, columns = height // factor, width // factor
        by_engine.check((min(rows, window or rows), min(columns, window or columns)), (rows, columns))


def never_loaded(part: str, placement: Placement) -> nn.Module:
    """The loading of networks that are only checked."""
    raise AssertionError(f"the {part} was to be checked only")
