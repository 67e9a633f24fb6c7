"""Latents: to and from safetensors files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sdcli.diffusion.replay import Call, Recording
from sdcli.errors import ImageError


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
