"""Rehearsal: a job is tried without the networks, so that what cannot work is refused before they are loaded."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sdcli import registry
from sdcli.checkpoints import hypernets, ip_adapters, network_config
from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.checkpoints.control_fit import check_controls
from sdcli.checkpoints.embeddings import check_fit
from sdcli.checkpoints.lora_file import check_blocks, check_loras
from sdcli.diffusion.conditioning import Composed, Cond, composed
from sdcli.diffusion.conventions import CONVENTIONS
from sdcli.diffusion.levels import Levels
from sdcli.errors import ModelError, UsageError
from sdcli.pipeline import latents_file
from sdcli.pipeline.depth import LACKING, PART
from sdcli.pipeline.encode import check_clip_skip
from sdcli.pipeline.freeu import check_freeu
from sdcli.pipeline.start import levels_of
from sdcli.pipeline.unet_inputs import NEEDED_PICTURE, REDRAWING, missing
from sdcli.request.inputs import InputImages
from sdcli.request.job import Job
from sdcli.request.prompts import check_prompts


def rehearse(found: Checkpoint, job: Job, inputs: InputImages) -> None:
    """Raise the SdError that the job would end with, as far as the headers of its model can tell.

    That is: a picture that the model needs is missing or does not fit, `clip_skip` counts too many layers, a file that
    alters networks is damaged or for other models, a run has fewer steps than `stop_after`, a latents file is damaged
    or of another run, or an option of the sampler, schedule or guidance is outside its range, which the first step of a
    run with a network that answers 0.1 x shows.
    """
    if found.family.embeds_guidance and job.guidance.name != "cfg":
        raise UsageError(
            f"--guidance {job.guidance}: {found.name} is a latent consistency model, whose U-Net is told the guidance "
            "scale; leave it out"
        )
    check_prompts(found.name, found.family.text_encoders, job)
    extra_channels = found.family.signature.channels - 4
    _check_pictures(found, inputs, extra_channels)
    inputs.at_size(job)
    for part in found.family.text_encoders:
        check_clip_skip(
            job.clip_skip,
            found.name,
            found.family,
            part,
            network_config.settings(part, found.components[part].config),
        )
    hypernets.check_fit(found, job.hypernet)
    ip_adapters.check_fit(found, job.ip_adapter)
    check_freeu(job, found.name, network_config.settings("unet", found.components["unet"].config))
    check_blocks(found.family.name, job.lora)
    check_loras(found, [lora.path for lora in job.lora], job.allow_partial)
    check_fit(found, job.embedding, [lora.path for lora in job.lora])
    check_controls(found, job.controls)
    over_picture = inputs.picture is not None and extra_channels in REDRAWING
    trained = found.levels
    sigmas, first = levels_of(job, trained, over_picture)
    sigmas = sigmas[first:]
    if job.latents_in:
        sigmas = _remaining(found, job, sigmas)
    check_stop(job, len(sigmas) - 1)
    if len(sigmas) > 1:
        _first_step(job, sigmas, trained)


def check_stop(job: Job, steps: int) -> None:
    """Raise UsageError if a run of so many steps cannot be stopped where the job wants it."""
    if job.stop_after > steps:
        raise UsageError(f"--stop-after {job.stop_after} is more than the {steps} steps of this run")


def _check_pictures(found: Checkpoint, inputs: InputImages, extra_channels: int) -> None:
    """Raise ModelError if the model's U-Net takes a picture or a depth map that is not there."""
    if extra_channels not in NEEDED_PICTURE:
        return
    if inputs.picture is None and (extra_channels != 1 or inputs.depth is None):
        raise missing(found.name, found.family.name, NEEDED_PICTURE[extra_channels])
    if extra_channels == 1 and inputs.depth is None and PART not in found.components:
        raise ModelError(f"{found.name}: {LACKING}, or give a depth map")


def _remaining(found: Checkpoint, job: Job, sigmas: list[float]) -> list[float]:
    """The levels that are left for the latents of a file, which is read to its end."""
    factor = network_config.pixels_per_latent(network_config.settings("vae", found.components["vae"].config))
    shape = (1, 4, job.height // factor, job.width // factor)
    _, sigma, _ = latents_file.read(job.latents_in, shape, factor)
    return sigmas if sigma is None else latents_file.remaining_sigmas(job.latents_in, sigma, sigmas)


def _first_step(job: Job, sigmas: Sequence[float], trained: Levels) -> None:
    """Take the first step of the job's sampler and guidance on a tiny x."""
    conventions = CONVENTIONS[job.like]
    x = torch.linspace(-1, 1, 4 * 8 * 8).reshape(1, 4, 8, 8) * sigmas[0]
    cond = Cond(torch.zeros(1, 77, 8))
    prompt, negative = Composed.plain(cond), Composed.plain(Cond(torch.zeros(1, 77, 8)))

    def predict(x: Tensor, sigma: float, conds: Sequence[Cond]) -> list[Tensor]:
        return [x * 0.1 for _ in conds]

    guidance = registry.find("guidance", job.guidance)
    denoise = guidance(composed(predict), prompt, negative, conventions.cfg(job.cfg, job.sampler.name))
    schedule = "" if job.sigmas else job.schedule.name
    sampler = conventions.sampler(job.sampler, schedule, job.steps, trained)
    next(iter(sampler(denoise, x, sigmas, lambda *_: x)), None)
