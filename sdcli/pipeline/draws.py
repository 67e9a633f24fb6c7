"""Draws: all the unit noise of a run, drawn from the picture's stream in the order of the tool that `--like` names."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sdcli.diffusion.conventions import CONVENTIONS
from sdcli.diffusion.noise import STREAMS, SeededNoise, centred_on, slerp
from sdcli.diffusion.types import Noise
from sdcli.models.model import Model
from sdcli.request.inputs import SizedImages
from sdcli.request.job import Job


@dataclass(frozen=True)
class Draws:
    """The unit noises of a run. None means that the tool draws no such noise."""

    first: Tensor  # of the latents, (1, 4, h/8, w/8)
    steps: Noise
    small_picture: Tensor | None = None  # (1, 3, h/4, w/4), of the picture that an x4 upscaler enlarges
    picture: Tensor | None = None  # samples the VAE's distribution of the picture; None: its mean is taken
    masked_picture: Tensor | None = None  # the same, for the picture without its masked part


def draws_of(model: Model, job: Job, images: SizedImages, shape: tuple[int, ...]) -> Draws:
    """The draws of a job's run over latents of this shape.

    sdcli draws the noise of the latents first, and takes the mean of the VAE's distribution. diffusers samples it, with
    the same generator: of the picture, before the latents, if the run starts from it or keeps parts of it; of the
    masked picture, after them, even where nothing uses it. It draws the noise of a small picture before the latents.
    """
    device = model.placement.device
    stream = STREAMS[job.rng](job.seed, shape, device)
    extra_channels = model.family.signature.channels - shape[1]
    small = (1, 3, *shape[2:]) if extra_channels == 3 else None
    if not CONVENTIONS[job.like].samples_posterior:
        first = _first(job, stream, shape, device)
        return Draws(
            first, _steps(job, stream, shape, device), None if small is None else stream.draw(shape)[:, :3]
        )
    samples = images.image is not None and "encoder_block_out_channels" not in model.configs["vae"]
    encodes = samples and (extra_channels in (0, 1) or (extra_channels == 5 and job.strength < 1))
    picture = stream.draw(shape) if encodes else None
    small_picture = None if small is None else stream.draw(small)
    first = _first(job, stream, shape, device)
    masked = samples and images.mask is not None and extra_channels in (0, 5)
    masked_picture = stream.draw(shape) if masked else None
    return Draws(first, _steps(job, stream, shape, device), small_picture, picture, masked_picture)


def _first(job: Job, stream: SeededNoise, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """The first noise of the latents. A variation, and the noise of another size, are combined as A1111 does."""
    first = own = stream(0.0, 0.0)
    if job.noise_size:
        width, height = job.noise_size
        shape = (*shape[:2], height // 8, width // 8)
        first = STREAMS[job.rng](job.seed, shape, device)(0.0, 0.0)
    if job.variation_strength:
        variation = STREAMS[job.rng](job.variation_seed, shape, device)(0.0, 0.0)
        first = slerp(first, variation, job.variation_strength)
    return first if first.shape == own.shape else centred_on(first, own)


def _steps(job: Job, stream: SeededNoise, shape: tuple[int, ...], device: torch.device) -> Noise:
    """The noise of the steps: the rest of the stream, or with A1111's ENSD one of its own."""
    return STREAMS[job.rng]((job.seed + job.ensd) % 2**64, shape, device) if job.ensd else stream
