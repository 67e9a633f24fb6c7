"""Start: what a run starts from and walks along: first x, sigmas, the picture's own noise, and what is held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from sdcli import registry
from sdcli.diffusion.conventions import CONVENTIONS
from sdcli.diffusion.inpaint import keep_unmasked
from sdcli.diffusion.noise import STREAMS, centred_on, slerp
from sdcli.diffusion.replay import Recording
from sdcli.diffusion.types import Denoise, Noise, Sigmas
from sdcli.models.model import Model
from sdcli.pipeline import latents, vae
from sdcli.pipeline.unet_inputs import UNetInputs, beside
from sdcli.request import sigmas as own_sigmas
from sdcli.request.inputs import SizedImages
from sdcli.request.request import Request, size


@dataclass(frozen=True)
class Start:
    """The start of a run. One sigma and no step is a run that only decodes."""

    x: Tensor  # (1, 4, h/8, w/8) float32 at noise level sigmas[0]
    sigmas: Sigmas
    noise: Noise
    beside: UNetInputs  # what the network is shown and told besides x
    kept: Tensor | None = None  # (1, 4, h/8, w/8) latents to be held where they are not free
    free: Tensor | None = None  # (1, 1, h/8, w/8) in 0 … 1
    recording: Recording | None = None  # of the part of the run that was taken before

    def keep_unmasked(self, denoise: Denoise) -> Denoise:
        """The same denoise, keeping what is not free."""
        if self.kept is None or self.free is None:
            return denoise
        return keep_unmasked(denoise, self.kept, self.free, self.sigmas)

    def finish(self, x: Tensor) -> Tensor:
        """The latents of a finished run: what was never free is what was kept, whatever level the run ends at."""
        return x if self.kept is None or self.free is None else x.where(self.free > 0, self.kept)


def canvas(model: Model, request: Request, layout: SizedImages, start: Tensor | None = None) -> Start:
    """The canvas of a completed request: seeded noise, or that of --latents-in, alone or over the picture laid out.

    Noise alone begins at sqrt(1 + sigma^2) times its unit size, so that the network sees the unit variance it was
    trained on at any first level. A picture begins as its latents, or as `start` if those are given, and sigma times
    the same noise, at the level from which `strength` of the steps are left. Or as the tool of --like has it.
    """
    shape = (1, 4, (request.height or 0) // model.factor, (request.width or 0) // model.factor)
    unit, noise = _noise(request, shape, model.placement.device)
    around = beside(model, request, layout, noise, shape)
    kept = free = None
    if layout.image is not None and around.redraws:
        start = vae.encode(model, vae.of(layout.image))
    sigmas, first = _sigmas(model, request, None if start is None else request.strength)
    if start is not None and layout.image is not None and layout.mask is not None:
        free = F.max_pool2d(vae.of_grey(layout.mask).to(start), model.factor)  # as free as its freest pixel
        shown = layout.shown or layout.image
        kept = start if shown is layout.image else vae.encode(model, vae.of(shown))
        start = _CONTENT[request.masked_content](start, unit, free)
    if around.masked:
        kept, start = None, (None if request.strength == 1 else start)  # the network itself sees to it
    like = CONVENTIONS[request.like]

    def begun(unit: Tensor) -> Tensor:
        if start is None:
            return unit * like.initial_scale(sigmas[first], model.levels, *_names(request))
        return like.noised(start, unit, sigmas, first, model.levels)

    full = Start(begun(unit), sigmas[first:], noise, around, kept, free)
    return full if request.latents_in is None else _resumed(model, request.latents_in, full, begun)


def _resumed(model: Model, path: str, full: Start, begun: Callable[[Tensor], Tensor]) -> Start:
    """The canvas that goes on from a file: from unit noise, or from the level that its latents stand at."""
    x, sigma, recording = latents.read(path, tuple(full.x.shape), model.factor)
    x = x.to(model.placement.device)
    if sigma is None:
        return replace(full, x=begun(x))
    rest = latents.from_level(path, sigma, full.sigmas)
    for before, after in pairwise(full.sigmas[: len(full.sigmas) - len(rest) + 1]):
        full.noise(before, after)  # what the steps already taken have drawn, one each
    return replace(full, x=x, sigmas=rest, recording=recording)


_CONTENT = {
    "original": lambda start, unit, free: start,
    "fill": lambda start, unit, free: start,
    "noise": lambda start, unit, free: start * (1 - free) + unit * free,
    "empty": lambda start, unit, free: start * (1 - free),
}
"""What --masked-content makes of the latents where the mask is; `fill` was done to the picture itself."""


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
    return (unit if unit.shape == own.shape else centred_on(unit, own)), noise


def _sigmas(model: Model, request: Request, strength: float | None) -> tuple[list[float], int]:
    """All the levels, and the number of the one to begin with if that part of the steps is to be taken."""
    if request.sigmas is not None:
        levels = list(own_sigmas.parse(request.sigmas))
        return levels, 0 if strength is None else CONVENTIONS["sdcli"].img2img_start(
            len(levels) - 1, strength
        )[1]
    like, schedule = CONVENTIONS[request.like], registry.find("schedules", str(request.schedule))
    steps = request.steps or 0
    total, first = (steps, 0) if strength is None else like.img2img_start(steps, strength)
    return like.sigmas(schedule, total, model.levels, _names(request)[0]), first


def _names(request: Request) -> tuple[str, str]:
    """The sampler and the schedule, without their options; no schedule if the levels are one's own."""
    sampler, schedule = (str(each).partition(":")[0] for each in (request.sampler, request.schedule))
    return sampler, "" if request.sigmas else schedule
