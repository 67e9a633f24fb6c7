"""Seeded noise: one stream per picture, drawn in float32 on the CPU, the same on every device; other tools' streams."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from sdcli.diffusion.philox import Philox


class SeededNoise(Protocol):
    """A picture's seeded stream of noise: a Noise that also draws noise of other shapes."""

    def __call__(self, sigma: float, lower: float, /) -> Tensor: ...

    def draw(self, shape: tuple[int, ...]) -> Tensor:
        """The next unit normal noise of this shape, float32."""


class Stream:
    """A picture's noise from torch's CPU generator. Each call draws the next unit noise, in the order of the steps.

    `shape` is that of one picture's latents, (1, 4, h/8, w/8): the generator gives a batch other numbers than its
    pictures one by one. It uses only the low 32 bits of a seed.
    """

    def __init__(self, seed: int, shape: tuple[int, ...], device: torch.device | str = "cpu") -> None:
        self.generator = torch.Generator("cpu").manual_seed(seed)
        self.shape = shape
        self.device = device

    def __call__(self, sigma: float, lower: float) -> Tensor:
        """Unit normal noise of `shape`, float32; the levels of the step make no difference."""
        return self.draw(self.shape)

    def draw(self, shape: tuple[int, ...]) -> Tensor:
        """The next unit normal noise of this shape, float32."""
        return torch.randn(shape, generator=self.generator, dtype=torch.float32).to(self.device)


class ComfyStream:
    """The noise of ComfyUI: the first draw is from torch's CPU generator, the steps' draws are of the device.

    On a GPU the steps' draws are CUDA's, of the same seed. On a CPU (`steps_on_cpu`) they are those of another torch
    generator, of the seed + 1. ComfyUI draws a whole batch at once, so only the first picture of a batch can be
    repeated.
    """

    def __init__(
        self,
        seed: int,
        shape: tuple[int, ...],
        device: torch.device | str = "cpu",
        *,
        steps_on_cpu: bool = False,
    ) -> None:
        self.shape = shape
        self._first: SeededNoise | None = Stream(seed, shape, device)
        next_seed = (seed + 1) % 2**64
        self._rest: SeededNoise = (
            Stream(next_seed, shape, device) if steps_on_cpu else Philox(seed, shape, device)
        )

    def __call__(self, sigma: float, lower: float) -> Tensor:
        """Unit normal noise of `shape`, float32; the levels of the step make no difference."""
        return self.draw(self.shape)

    def draw(self, shape: tuple[int, ...]) -> Tensor:
        """The next unit normal noise of this shape, float32."""
        stream, self._first = self._first or self._rest, None
        return stream.draw(shape)


STREAMS: dict[str, Callable[..., SeededNoise]] = {
    "torch": Stream,
    "philox": Philox,
    "comfyui": ComfyStream,
    "comfyui_cpu": partial(ComfyStream, steps_on_cpu=True),
}
"""The word of --rng -> (seed, shape, device) -> a picture's noise. diffusers on a CPU generator draws as "torch"."""


def slerp(first: Tensor, second: Tensor, share: float) -> Tensor:
    """Spherical interpolation between two noises, column by column as A1111 does it; unit noise stays unit noise.

    share 0 is the first, 1 the second.
    """
    first_unit, second_unit = (noise / noise.norm(dim=-2, keepdim=True) for noise in (first, second))
    cosine = (first_unit * second_unit).sum(-2, keepdim=True)
    if float(cosine.mean()) > 0.9995:  # nearly parallel: the angle is too small to divide by
        return first * (1 - share) + second * share
    angle = cosine.clamp(-1, 1).acos()
    between: Tensor = (first * ((1 - share) * angle).sin() + second * (share * angle).sin()) / angle.sin()
    return between


def centred_on(noise: Tensor, background: Tensor) -> Tensor:
    """`background` with `noise` of another size in its middle, cropped where it is larger: A1111's seed resize."""
    result = background.clone()
    down, right = (
        (big - small) // 2 for big, small in zip(background.shape[-2:], noise.shape[-2:], strict=True)
    )
    source = noise[..., max(-down, 0) :, max(-right, 0) :]
    target = result[..., max(down, 0) :, max(right, 0) :]
    height, width = (min(sides) for sides in zip(source.shape[-2:], target.shape[-2:], strict=True))
    target[..., :height, :width] = source[..., :height, :width]
    return result
