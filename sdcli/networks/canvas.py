"""Canvas: what a run starts from and walks along: first x, sigmas, and the picture's own noise."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from sdcli import registry
from sdcli.diffusion.likes import LIKES
from sdcli.diffusion.noise import STREAMS, laid, slerp
from sdcli.diffusion.recording import Recording
from sdcli.diffusion.types import Noise, Sigmas
from sdcli.errors import ModelError
from sdcli.networks import latents
from sdcli.networks.model import Model
from sdcli.request import sigmas as own_sigmas
from sdcli.request.request import Request, size


@dataclass(frozen=True)
class Canvas:
    """The start of a run. One sigma and no step is a run that only decodes."""

    x: Tensor  # (1, 4, h/8, w/8) float32 at noise level sigmas[0]
    sigmas: Sigmas
    noise: Noise
    extra: Tensor | None = None  # (1, k, h/8, w/8) what the network is shown beside x
    recording: Recording | None = None  # of the part of the run that was taken before


def canvas(model: Model, request: Request) -> Canvas:
    """The canvas of a completed request: seeded noise, or the latents that --latents-in names.

    Noise begins at sqrt(1 + sigma^2) times its unit size, so that the network sees the unit variance it was trained
    on at any first level, or as the tool of --like has it.
    """
    sigmas = _sigmas(model, request)
    shape = (1, model.unet.config.out_channels, (request.height or 0) // 8, (request.width or 0) // 8)
    unit, noise = _noise(request, shape, model.place.device)
    start = LIKES[request.like].first(sigmas[0], model.levels, *_names(request))
    extra = _beside(model, shape)
    if request.latents_in is None:
        return Canvas(unit * start, sigmas, noise, extra)
    x, sigma, recording = latents.read(request.latents_in, shape)
    x = x.to(model.place.device)
    if sigma is None:
        return Canvas(x * start, sigmas, noise, extra)
    rest = latents.from_level(request.latents_in, sigma, sigmas)
    for before, after in pairwise(sigmas[: len(sigmas) - len(rest) + 1]):
        noise(before, after)  # what the steps already taken have drawn, one each
    return Canvas(x, rest, noise, extra, recording)


def _noise(request: Request, shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Noise]:
    """The picture's first unit noise, and the rest of its stream, which goes on from there whatever the first is for.

    A variation and the noise of another size are drawn and joined as A1111 does.
    """
    stream, seed = STREAMS[request.rng], request.seed or 0
    noise = stream(seed, shape, device)
    unit = own = noise(0.0, 0.0)
    if request.seed_size is not None:
        width, height = size(request.seed_size)
        shape = (*shape[:2], height // 8, width // 8)
        unit = stream(seed, shape, device)(0.0, 0.0)
    if request.variation_seed is not None:
        unit = slerp(
            unit, stream(request.variation_seed, shape, device)(0.0, 0.0), request.variation_strength
        )
    return (unit if unit.shape == own.shape else laid(unit, own)), noise


def _beside(model: Model, shape: tuple[int, ...]) -> Tensor | None:
    """The extra channels of a run without a picture: an inpainting model repaints a grey picture everywhere."""
    if model.family.needs:
        raise ModelError(
            f"{model.name}: a {model.family.name} model needs {model.family.needs}; txt2img gives none"
        )
    if model.family.traits.channels == shape[1]:
        return None
    grey = latents.encode(model, torch.zeros((1, 3, shape[2] * 8, shape[3] * 8), device=model.place.device))
    return torch.cat([torch.ones_like(grey[:, :1]), grey], 1)


def _sigmas(model: Model, request: Request) -> list[float]:
    if request.sigmas is not None:
        return list(own_sigmas.parse(request.sigmas))
    schedule = registry.find("schedules", str(request.schedule))
    return LIKES[request.like].sigmas(schedule, request.steps or 0, model.levels, _names(request)[0])


def _names(request: Request) -> tuple[str, str]:
    """The sampler and the schedule, without their knobs; no schedule if the levels are one's own."""
    sampler, schedule = (str(each).partition(":")[0] for each in (request.sampler, request.schedule))
    return sampler, "" if request.sigmas else schedule
