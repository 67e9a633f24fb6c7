"""Areas: how much the prompt and the prompt of each region count at each latent."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from PIL.Image import Image
from torch import Tensor

from sdcli.errors import UsageError
from sdcli.pipeline import vae
from sdcli.request.regions import Box, Region

LEAST = 0.01
"""A region that counts less than this at each latent would change nothing that can be seen."""


def areas(
    regions: Sequence[Region], masks: Sequence[Image | None], size: tuple[int, int]
) -> tuple[Tensor, list[Tensor]]:
    """(area of the prompt, area of each region), (1, 1, h, w) each, in 0 … 1; together they are 1 everywhere.

    `size` is (h, w) in latents. A region counts as its strength says; where regions overlap and would be more than 1
    together, they share the place in that proportion, and the prompt has what they leave. Raises UsageError for a
    region that counts nowhere.
    """
    wanted = [
        region.strength * (_in_box(region.box, size) if region.box else _in_mask(mask, size))
        for region, mask in zip(regions, masks, strict=True)
    ]
    for region, area in zip(regions, wanted, strict=True):
        if area.max() < LEAST:
            raise UsageError(
                f"--region {region.prompt!r}: covers nothing of the picture; give it a larger place"
            )
    total = torch.stack(wanted).sum(0)
    found = [area / total.clamp(min=1) for area in wanted]
    return (1 - total).clamp(min=0), found


def _in_box(box: Box, size: tuple[int, int]) -> Tensor:
    """The share of each latent that lies in the box."""
    left, top, width, height = box
    return (
        _overlap(top, height, size[0])[:, None]
        * _overlap(left, width, size[1])[None, :]
        * torch.ones(1, 1, *size)
    )


def _overlap(start: float, length: float, count: int) -> Tensor:
    """How much of each of `count` cells of 0 … 1 a span covers."""
    first = torch.arange(count, dtype=torch.float64)
    covered = torch.minimum(first + 1, torch.tensor((start + length) * count)) - first.clamp(
        min=start * count
    )
    return covered.clamp(0, 1).float()


def _in_mask(mask: Image | None, size: tuple[int, int]) -> Tensor:
    """How light the mask is at each latent, fitted to the shape of the picture."""
    assert mask is not None
    return F.interpolate(vae.grey_to_tensor(mask), size, mode="area")
