"""Latents files: latents, and the recording of a stopped run, to and from safetensors."""

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

PLAIN, RECORDED = ["latents"], ["answers", "first", "latents"]
"""The tensors of a file: latents alone, or with the recording of the run that led to them."""


def to_bytes(x: Tensor, sigma: float, recording: Recording | None = None) -> bytes:
    """Latents as a safetensors file: float32 `latents`, and as metadata the noise level that they are at.

    A recording of the run adds its `first` x and all `answers` of the network in one tensor, and as metadata the step,
    the level of the first x, and for each call its level and its number of answers.
    """
    tensors, metadata = {"latents": x}, {"format": "pt", "sigma": repr(sigma)}
    if recording is not None:
        answers = [answer for call in recording.calls for answer in call.answers]
        tensors |= {"first": recording.first, "answers": torch.cat(answers)}
        calls = [(call.sigma, len(call.answers)) for call in recording.calls]
        metadata |= {"start": repr(recording.start), "step": str(recording.step), "calls": json.dumps(calls)}
    return save({name: each.float().cpu().contiguous() for name, each in tensors.items()}, metadata)


def read(path: str, shape: tuple[int, ...], factor: int = 8) -> tuple[Tensor, float | None, Recording | None]:
    """The x in a file, its noise level, and the recording of the run that starts from it, if there is one.

    A level of None means unit noise, as other tools write it. Raises ImageError if the file is not a latents file, or
    its tensors are not of this shape, or not finite.
    """
    tensors, metadata = _contents(path)
    for name, tensor in tensors.items():
        _check_tensor(path, name, tensor, shape, factor)
    if "first" not in tensors:
        return tensors["latents"].float(), _sigma(path, metadata.get("sigma")), None
    recording = _recording(path, tensors, metadata)
    return recording.first, recording.start, recording


def remaining_sigmas(path: str, sigma: float, sigmas: Sequence[float]) -> list[float]:
    """The noise levels that are left for latents at level sigma; at 0 only decoding is left.

    Raises ImageError if the run does not visit that level.
    """
    if sigma == 0:
        return [0.0]
    for i, level in enumerate(sigmas):
        if math.isclose(level, sigma, rel_tol=1e-6):
            return list(sigmas[i:])
    nearest = min(sigmas, key=lambda level: abs(level - sigma))
    raise ImageError(
        f"{path}: stands at noise level {sigma:g}, which this run does not visit (nearest {nearest:g})"
    )


def _contents(path: str) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            names = sorted(file.keys())
            if names not in (PLAIN, RECORDED):
                listed = ", ".join(names[:3]) or "nothing"
                raise ImageError(f"{path}: holds {listed}, not one tensor `latents`")
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except FileNotFoundError:
        raise ImageError(f"{path}: there is no such file") from None
    except (SafetensorError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ImageError(f"{path}: not a safetensors file that can be read ({reason})") from None


def _check_tensor(path: str, name: str, tensor: Tensor, shape: tuple[int, ...], factor: int) -> None:
    skipped = 1 if name == "answers" else 0  # there may be any number of answers
    if tuple(tensor.shape[skipped:]) != shape[skipped:]:
        needed = f"{shape} for {shape[3] * factor}x{shape[2] * factor} pixels"
        raise ImageError(
            f"{path}: {name} are {tuple(tensor.shape)}, not {needed}; give their --width and --height"
        )
    if not tensor.is_floating_point() or not torch.isfinite(tensor).all():
        raise ImageError(f"{path}: {name} are not finite numbers")


def _sigma(path: str, text: str | None) -> float | None:
    try:
        sigma = float(text) if text is not None else None
    except ValueError:
        sigma = math.nan
    if sigma is not None and not 0 <= sigma < math.inf:
        raise ImageError(f"{path}: its noise level {text!r} is not a number of 0 or more")
    return sigma


def _recording(path: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Recording:
    try:
        counts = [(float(sigma), int(count)) for sigma, count in json.loads(metadata["calls"])]
        start, step = float(metadata["start"]), int(metadata["step"])
        parts = torch.split(tensors["answers"].float(), [count for _, count in counts])
    except (KeyError, TypeError, ValueError, RuntimeError, RecursionError):
        raise ImageError(
            f"{path}: its record of the run is damaged; make it again with --stop-after"
        ) from None
    calls = [Call(sigma, torch.split(part, 1)) for (sigma, _), part in zip(counts, parts, strict=True)]
    return Recording(tensors["first"].float(), start, tensors["latents"].float(), step, calls, path)
