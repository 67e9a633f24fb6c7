"""Seeded noise: one stream a picture, drawn in float32 on the CPU, the same on every device."""

from __future__ import annotations

import torch
from torch import Tensor


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
