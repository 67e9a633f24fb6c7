"""Latents: to pictures through the VAE, and to and from safetensors files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sdcli.diffusion.recording import Call, Recording
from sdcli.errors import ImageError, NotFinite
from sdcli.networks.model import Model


def decode(model: Model, x: Tensor, truncates: bool = False) -> tuple[Image.Image, str | None]:
    """Latents (1, 4, h/8, w/8) -> an 8-bit RGB image of h x w pixels, and the fall-back that was needed, if any.

    Values between two bytes go to the nearer one, half to even, or with `truncates` to the lower one. A
    decode that is not finite is tried once more in float32; NotFinite if that is no better.
    """
    pixels, fallback = _decoded(model, x), None
    if not torch.isfinite(pixels).all():
        fallback = "VAE in float32"
        model.vae.float()
        try:
            pixels = _decoded(model, x, torch.float32)
        finally:
            model.vae.to(model.place.dtype)
        if not torch.isfinite(pixels).all():
            raise NotFinite("the decoded picture is not finite, in float32 either; nothing was written")
    values = pixels[0].clamp(-1, 1) * 127.5 + 127.5
    bytes_ = (values if truncates else values.round()).to(torch.uint8)
    return Image.fromarray(bytes_.permute(1, 2, 0).contiguous().cpu().numpy()), fallback


@torch.inference_mode()
def _decoded(model: Model, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    config = model.vae.config
    z = x / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
    z = z.to(dtype or model.place.dtype).contiguous(memory_format=torch.channels_last)
    return model.vae.decode(z, return_dict=False)[0].float()


@torch.inference_mode()
def encode(model: Model, pixels: Tensor) -> Tensor:
    """Pixels (1, 3, h, w) in -1 … 1 -> latents (1, 4, h/8, w/8) float32: the mean that the VAE gives, scaled."""
    config = model.vae.config
    x = pixels.to(model.place.device, model.place.dtype).contiguous(memory_format=torch.channels_last)
    encoded = model.vae.encode(x)
    mean = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
    return (
        mean.float().contiguous() - (getattr(config, "shift_factor", None) or 0.0)
    ) * config.scaling_factor


def pixels(image: Image.Image) -> Tensor:
    """An RGB image -> (1, 3, h, w) in -1 … 1 on the CPU."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1


def values(image: Image.Image) -> Tensor:
    """A grey image (a mask, a depth map) -> (1, 1, h, w) in 0 … 1 on the CPU."""
    return torch.from_numpy(np.array(image))[None, None].float() / 255


def to_file(x: Tensor, sigma: float, recording: Recording | None = None) -> bytes:
    """Latents as a safetensors file: float32 `latents`, and the noise level they stand at as metadata.

    A recording of the run adds its `first` x and the network's `answers`, one after the other, and as metadata the
    step, the level of the first x, and the level and number of answers of each call.
    """
    tensors, about = {"latents": x}, {"format": "pt", "sigma": repr(sigma)}
    if recording is not None:
        answers = [answer for call in recording.calls for answer in call.answers]
        tensors |= {"first": recording.first, "answers": torch.cat(answers)}
        calls = [(call.sigma, len(call.answers)) for call in recording.calls]
        about |= {"start": repr(recording.start), "step": str(recording.step), "calls": json.dumps(calls)}
    return save({name: each.float().cpu().contiguous() for name, each in tensors.items()}, about)


def read(path: str, shape: tuple[int, ...], factor: int = 8) -> tuple[Tensor, float | None, Recording | None]:
    """The latents in a file, their noise level, and the recording of the run that they are the first x of, if any.

    A level of None means unit noise, as other tools write it. Raises ImageError if the file is not one, or not of this
    shape, or not finite.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            names = sorted(file.keys())
            if names not in (["latents"], ["answers", "first", "latents"]):
                raise ImageError(
                    f"{path}: holds {', '.join(names[:3]) or 'nothing'}, not one tensor `latents`"
                )
            tensors = {name: file.get_tensor(name) for name in names}
    except FileNotFoundError:
        raise ImageError(f"{path}: there is no such file") from None
    except (SafetensorError, OSError) as error:
        raise ImageError(
            f"{path}: not a safetensors file that can be read ({str(error).splitlines()[0]})"
        ) from None
    for name, x in tensors.items():
        if tuple(x.shape[1:] if name == "answers" else x.shape) != shape[name == "answers" :]:
            need = f"{shape} for {shape[3] * factor}x{shape[2] * factor} pixels"
            raise ImageError(
                f"{path}: {name} are {tuple(x.shape)}, not {need}; give their --width and --height"
            )
        if not x.is_floating_point() or not torch.isfinite(x).all():
            raise ImageError(f"{path}: {name} are not finite numbers")
    x, sigma = tensors["latents"].float(), _level(path, about.get("sigma"))
    if "first" not in tensors:
        return x, sigma, None
    recording = _recording(path, tensors, about)
    return recording.first, recording.start, recording


def _level(path: str, told: str | None) -> float | None:
    try:
        sigma = float(told) if told is not None else None
    except ValueError:
        sigma = math.nan
    if sigma is not None and not 0 <= sigma < math.inf:
        raise ImageError(f"{path}: its noise level {told!r} is not a number of 0 or more")
    return sigma


def _recording(path: str, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> Recording:
    try:
        counts = [(float(sigma), int(count)) for sigma, count in json.loads(about["calls"])]
        start, step = float(about["start"]), int(about["step"])
        parts = tensors["answers"].float().split([count for _, count in counts])
    except (KeyError, TypeError, ValueError, RuntimeError, RecursionError):
        raise ImageError(
            f"{path}: its record of the run is damaged; make it again with --stop-after"
        ) from None
    calls = [Call(sigma, part.split(1)) for (sigma, _), part in zip(counts, parts, strict=True)]
    return Recording(tensors["first"].float(), start, tensors["latents"].float(), step, calls, path)


def from_level(path: str, sigma: float, sigmas: Sequence[float]) -> list[float]:
    """The rest of a run that stands at sigma: the levels from it on. At 0 nothing is left but decoding."""
    if sigma == 0:
        return [0.0]
    for i, level in enumerate(sigmas):
        if math.isclose(level, sigma, rel_tol=1e-6):
            return list(sigmas[i:])
    near = min(sigmas, key=lambda level: abs(level - sigma))
    raise ImageError(
        f"{path}: stands at noise level {sigma:g}, which this run does not visit (nearest {near:g})"
    )
