"""Start: what a run of the sampler starts from: the first x, the noise levels, the noise, and what is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from sdcli.diffusion.brownian import NoiseWithPath
from sdcli.diffusion.brownian_tree import BrownianTree
from sdcli.diffusion.conventions import BROWNIAN_SAMPLERS, CONVENTIONS, spacing
from sdcli.diffusion.inpaint import keep_unmasked, mix_unmasked
from sdcli.diffusion.levels import Levels
from sdcli.diffusion.noise import STREAMS
from sdcli.diffusion.replay import Recording
from sdcli.diffusion.types import Denoise, Noise, Sigmas
from sdcli.models.model import Model
from sdcli.pipeline import latents_file, vae
from sdcli.pipeline.controls import controls_of
from sdcli.pipeline.draws import draws_of
from sdcli.pipeline.latent_mask import latent_mask, without_masked_part
from sdcli.pipeline.unet_inputs import UNetInputs, unet_inputs
from sdcli.request.inputs import SizedImages
from sdcli.request.job import Job


@dataclass(frozen=True)
class Start:
    """The start of a run. One sigma, and so no step, is a run that only decodes."""

    x: Tensor  # (1, 4, h/8, w/8) float32 at noise level sigmas[0]
    levels: Sigmas  # that the run visits
    sigmas: Sigmas  # those of them that are left, all but in a run that goes on from latents
    noise: Noise
    inputs: UNetInputs  # what the U-Net is given besides x
    original_latents: Tensor | None = None  # (1, 4, h/8, w/8) of the picture, kept where the mask is 0
    mask: Tensor | None = None  # (1, 1, h/8, w/8) in 0 … 1; 1 is repainted
    mask_noise: Tensor | None = None  # of that size: what is kept is shown to the network with this noise
    mixes_first_level: bool = True  # False: not at the first level
    recording: Recording | None = None  # of the steps that an earlier run has taken

    def keep_unmasked(self, denoise: Denoise) -> Denoise:
        """The same Denoise, which keeps the original latents where the mask is 0."""
        if self.original_latents is None or self.mask is None:
            return denoise
        if self.mask_noise is None:
            return keep_unmasked(denoise, self.original_latents, self.mask, self.sigmas)
        pure_at = None if self.mixes_first_level else self.sigmas[0]
        return mix_unmasked(denoise, self.original_latents, self.mask, self.mask_noise, pure_at)

    def finish(self, x: Tensor) -> Tensor:
        """The latents of a finished run, exactly the original ones where the mask is 0, at whatever level it ends."""
        if self.original_latents is None or self.mask is None:
            return x
        return x.where(self.mask > 0, self.original_latents)


def start_of(model: Model, job: Job, images: SizedImages, latents: Tensor | None = None) -> Start:
    """The start of a job's run: seeded noise, or that of --latents-in; alone or over a picture.

    Noise alone starts at sqrt(1 + sigma^2) times unit size, so that the U-Net sees the unit variance it was trained on
    at any first level. A run over a picture starts from the picture's latents (or from `latents`) plus sigma times the
    same noise, at the level from which `strength` of the steps are left. `--like` replaces these conventions.
    """
    shape = (1, 4, job.height // model.factor, job.width // model.factor)
    conventions = CONVENTIONS[job.like]
    draws = draws_of(model, job, images, shape)
    inputs = unet_inputs(model, job, images, draws, shape)
    if model.family.embeds_guidance:
        inputs = replace(inputs, guidance_scale=job.cfg)
    if images.image is not None and inputs.redraws:
        latents = vae.encode(model, _first_picture(job, images), draws.picture)
    original = mask = None
    if latents is not None and images.mask is not None:
        mask = latent_mask(model, job, images)
        original = latents if conventions.keeps_start else _original(model, job, images, latents)
        latents = _MASKED_CONTENT[job.mask.masked_content](latents, draws.first, mask)
    sigmas, first = levels_of(job, model.levels, over_picture=latents is not None)
    inputs = replace(inputs, controls=controls_of(model, job, images, sigmas[first:]))
    noise = _with_path(job, draws.steps, sigmas, first, shape, model.placement.device)
    if inputs.has_mask and not conventions.holds_outside_mask:
        original = None  # the U-Net itself keeps what is not masked
        latents = None if job.strength == 1 else latents
    if mask is not None and job.strength == 1 and conventions.pure_noise_inpaint:
        latents = None

    def begin(noise: Tensor) -> Tensor:
        return _first_x(model, job, latents, noise, sigmas, first)

    mask_noise = _mask_noise(model, job, draws.first) if conventions.mixes_unmasked else None
    start = Start(
        begin(draws.first),
        sigmas[first:],
        sigmas[first:],
        noise,
        inputs,
        original,
        mask,
        mask_noise,
        conventions.mixes_first_level,
    )
    return _resumed(model, job.latents_in, start, begin) if job.latents_in else start


def _first_picture(job: Job, images: SizedImages) -> Tensor:
    """The picture that a run starts from, (1, 3, h, w) in -1 … 1."""
    assert images.image is not None
    picture = vae.to_tensor(images.image)
    if job.mask.masked_content == "grey" and images.mask is not None:
        return without_masked_part(picture, vae.grey_to_tensor(images.mask))
    return picture


def _original(model: Model, job: Job, images: SizedImages, latents: Tensor) -> Tensor:
    """The latents of the picture as it was, before --masked-content fill or grey."""
    if job.mask.masked_content == "grey" and images.image is not None:
        return vae.encode(model, vae.to_tensor(images.image))
    return latents if images.shown is None else vae.encode(model, vae.to_tensor(images.shown))


def _mask_noise(model: Model, job: Job, first: Tensor) -> Tensor:
    """The unit noise with which the network is shown what a mask keeps."""
    added = CONVENTIONS[job.like].mask_noise_of.get(job.sampler.name)
    if added is None:
        return first
    return STREAMS["torch"]((job.seed + added) % 2**64, tuple(first.shape), model.placement.device)(0.0, 0.0)


def _first_x(
    model: Model, job: Job, latents: Tensor | None, noise: Tensor, sigmas: list[float], first: int
) -> Tensor:
    """The x that a run starts with, from unit noise, over a picture's latents if there are any."""
    conventions = CONVENTIONS[job.like]
    if latents is not None:
        return conventions.noised(latents, noise, sigmas, first, model.levels, job.sampler.name)
    schedule = "" if job.sigmas else spacing(job.schedule)
    return noise * conventions.initial_scale(sigmas[first], model.levels, job.sampler.name, schedule)


def _resumed(model: Model, path: str, start: Start, begin: Callable[[Tensor], Tensor]) -> Start:
    """The start that takes its latents from a file: unit noise, or latents at a level that the run visits."""
    x, sigma, recording = latents_file.read(path, tuple(start.x.shape), model.factor)
    x = x.to(model.placement.device)
    if sigma is None:
        return replace(start, x=begin(x))
    rest = latents_file.remaining_sigmas(path, sigma, start.sigmas)
    for before, after in pairwise(start.sigmas[: len(start.sigmas) - len(rest) + 1]):
        start.noise(before, after)  # the steps already taken have drawn this noise
    return replace(start, x=x, sigmas=rest, recording=recording)


_MASKED_CONTENT: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "original": lambda latents, noise, mask: latents,
    "fill": lambda latents, noise, mask: latents,  # the picture itself was filled before it was encoded
    "noise": lambda latents, noise, mask: latents * (1 - mask) + noise * mask,
    "empty": lambda latents, noise, mask: latents * (1 - mask),
    "grey": lambda latents, noise, mask: latents,  # the picture was made grey before it was encoded
}
"""--masked-content -> (latents, unit noise, mask) -> the latents that the run starts from."""


def _with_path(
    job: Job, noise: Noise, sigmas: list[float], first: int, shape: tuple[int, ...], device: torch.device
) -> Noise:
    """The noise, with the Brownian tree that the tool of --like gives this sampler, if it does."""
    conventions = CONVENTIONS[job.like]
    if conventions.brownian_tree is None or job.sampler.name not in BROWNIAN_SAMPLERS or sigmas[first] == 0:
        return noise
    stream = STREAMS[conventions.tree_draws or job.rng]
    spanned = conventions.brownian_tree(sigmas, first)
    through_log = job.sampler.name == "dpmpp_sde"
    tree = BrownianTree(
        job.seed, spanned, lambda seed: stream(seed, shape)(0.0, 0.0), device, through_log=through_log
    )
    return NoiseWithPath(noise, tree)


def levels_of(job: Job, trained: Levels, over_picture: bool) -> tuple[list[float], int]:
    """All noise levels, and the index of the one to start at: `strength` of the steps are taken over a picture."""
    if job.sigmas:
        steps = len(job.sigmas) - 1
        return list(job.sigmas), CONVENTIONS["sdcli"].img2img_start(steps, job.strength)[
            1
        ] if over_picture else 0
    strength = job.strength if over_picture else None
    is_second = job.first_pass_steps > 0
    return CONVENTIONS[job.like].levels(
        job.schedule, job.steps, trained, job.sampler.name, strength, is_second
    )
