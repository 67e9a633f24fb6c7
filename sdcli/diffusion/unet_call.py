"""UNetCall: one call of the U-Net, as those see it who add to it or watch it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sdcli.diffusion.conditioning import Cond
from sdcli.diffusion.windows import Window

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class UNetCall:
    """One call of the U-Net, just before it is made."""

    x: Tensor  # (n, channels, h, w): the scaled latents of the window and what is concatenated to them
    sigma: float
    t: float  # the timestep that the U-Net is told
    conds: Sequence[Cond]  # one per row of x
    window: Window  # the rows and columns of the whole latents that x is


See = Callable[[UNetCall], None]
"""Told of each call of the U-Net before it is made."""
