"""Seeded noise: one stream a picture, drawn in float32 on the CPU, the same on every device; other tools' ways."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sdcli.diffusion.philox import Philox
from sdcli.diffusion.types import Noise


class Stream:
    """A picture's own noise. Call it for each step's fresh unit noise, in the order of the steps.

    `shape` is that of one picture's latents, (1, 4, h/8, w/8): torch's CPU generator gives a batch other numbers
    than its members. Only the low 32 bits of a seed count there, so seeds are 0 … 2**32 - 1.
    """

    def __init__(self, seed: int, shape: tuple[int, ...], device: torch.device | str = "cpu") -> None:
        self.generator = torch.Generator("cpu").manual_seed(seed)
        self.shape = shape
        self.device = device

    def __call__(self, sigma: float, lower: float) -> Tensor:
        """Unit normal noise of `shape`; the levels of the step are for streams that depend on them."""
        return torch.randn(self.shape, generator=self.generator, dtype=torch.float32).to(self.device)


class ComfyStream:
    """The noise of ComfyUI on a GPU: the first draw is torch's on the CPU, those of the steps are CUDA's.

    With both from the same seed. Of a batch ComfyUI draws the whole at once, so that only its first picture can be
    made again.
    """

    def __init__(self, seed: int, shape: tuple[int, ...], device: torch.device | str = "cpu") -> None:
        self._first: Noise | None = Stream(seed, shape, device)
        self._others = Philox(seed, shape, device)

    def __call__(self, sigma: float, lower: float) -> Tensor:
        """Unit normal noise of the shape asked for."""
        noise, self._first = self._first or self._others, None
        return noise(sigma, lower)


STREAMS: dict[str, Callable[..., Noise]] = {"torch": Stream, "philox": Philox, "comfyui": ComfyStream}
"""The word of --rng -> (seed, shape, device) -> a picture's noise. diffusers draws as "torch", from a CPU generator."""


def slerp(noise: Tensor, other: Tensor, part: float) -> Tensor:
    """From one noise to another along the sphere, column by column as A1111 does; unit noise stays unit noise."""
    one, two = (each / each.norm(dim=-2, keepdim=True) for each in (noise, other))
    cosine = (one * two).sum(-2, keepdim=True)
    if float(cosine.mean()) > 0.9995:
        return noise * (1 - part) + other * part
    angle = cosine.clamp(-1, 1).acos()
    return (noise * ((1 - part) * angle).sin() + other * (part * angle).sin()) / angle.sin()


def centred_on(noise: Tensor, onto: Tensor) -> Tensor:
    """The noise of one size in the middle of that of another, cut where it is larger: A1111's seed resize."""
    result = onto.clone()
    down, right = ((big - small) // 2 for big, small in zip(onto.shape[-2:], noise.shape[-2:], strict=True))
    inner = noise[..., max(-down, 0) :, max(-right, 0) :]
    area = result[..., max(down, 0) :, max(right, 0) :]
    height, width = (min(sides) for sides in zip(inner.shape[-2:], area.shape[-2:], strict=True))
    area[..., :height, :width] = inner[..., :height, :width]
    return result
