"""Enlarge: a picture is enlarged by an upscaler's network, in tiles that bound the memory it takes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sdcli.diffusion.windows import Window, blend_bands, windows
from sdcli.errors import NotFinite
from sdcli.models.device import Placement
from sdcli.models.upscaler import Upscaler

TILE = 256
"""Side of a tile in input pixels, if none is asked for."""
MARGIN = 24
"""Input pixels that a tile sees beyond the part of its result that is used: its edge knows nothing of what follows."""
OVERLAP = 8
"""Input pixels in which two tiles' results are blended."""


def enlarge_image(
    image: Image.Image, alpha: Image.Image | None, network: Upscaler, placement: Placement, tile: int = TILE
) -> Image.Image:
    """The image (L, RGB) enlarged by the network, with its alpha (L) enlarged by Lanczos, as L, LA, RGB or RGBA.

    It takes the memory of the two pictures and of a row of tiles.
    """
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None]
    scale = network.factor // network.unshuffle
    enlarged = Image.new(image.mode, (image.width * scale, image.height * scale))
    top = 0
    for planes in enlarge_bands(pixels, network, placement, tile):
        as_bytes = (planes[0].clamp(0, 1) * 255).round().to(torch.uint8)
        band = Image.fromarray(as_bytes.permute(1, 2, 0).contiguous().numpy()).convert(image.mode)
        enlarged.paste(band, (0, top))
        top += band.height
    if alpha is not None:
        enlarged.putalpha(alpha.resize(enlarged.size, Image.Resampling.LANCZOS))
    return enlarged


def enlarge_planes(pixels: Tensor, network: Upscaler, placement: Placement, tile: int = TILE) -> Tensor:
    """Pixels (1, 3, h, w), 0 … 1, enlarged: (1, 3, h * scale, w * scale) float32 on the CPU, not clamped.

    No tile that the network sees is larger than tile x tile pixels. Raises NotFinite.
    """
    return torch.cat([*enlarge_bands(pixels, network, placement, tile)], dim=-2)


@torch.inference_mode()
def enlarge_bands(
    pixels: Tensor, network: Upscaler, placement: Placement, tile: int = TILE
) -> Iterator[Tensor]:
    """What `enlarge_planes` gives as bands from the top down; the pixels may be bytes, 0 … 255, too."""
    height, width = pixels.shape[-2:]
    unshuffle = network.unshuffle
    scale = network.factor // unshuffle
    inputs = F.pixel_unshuffle(_padded(pixels, unshuffle), unshuffle)
    size = (inputs.shape[-2], inputs.shape[-1])
    margin = _margin(unshuffle, tile, network.grid)

    def compute(window: Window) -> Tensor:
        seen = [_seen(side, margin, network.grid) for side in window]
        part = _as_floats(inputs[..., seen[0], seen[1]]).to(placement.device, placement.dtype)
        result: Tensor = network(part.contiguous(memory_format=torch.channels_last)).float().cpu()
        if not torch.isfinite(result).all():
            raise NotFinite("the enlarged picture is not finite; try --dtype float32")
        used = [_within(side, outer, network.factor) for side, outer in zip(window, seen, strict=True)]
        return result[..., used[0], used[1]]

    top = 0
    rows, columns = (_spans(length, unshuffle, tile, network.grid) for length in size)
    for band in blend_bands(size, rows, columns, compute, network.factor):
        yield band[..., : height * scale - top, : width * scale]
        top += band.shape[-2]


def _padded(pixels: Tensor, unshuffle: int) -> Tensor:
    """The pixels with sides that `unshuffle` divides: mirrored as Real-ESRGAN does, if there are enough of them."""
    height, width = pixels.shape[-2:]
    if height % unshuffle == width % unshuffle == 0:
        return pixels
    mode = "reflect" if min(height, width) >= unshuffle else "replicate"
    padded = F.pad(pixels.float(), (0, -width % unshuffle, 0, -height % unshuffle), mode=mode)
    return padded.to(pixels.dtype)


def _as_floats(pixels: Tensor) -> Tensor:
    return pixels if pixels.is_floating_point() else pixels / 255


def tiles(size: tuple[int, int], unshuffle: int, tile: int, grid: int = 1) -> list[Window]:
    """The parts of a plane of this height and width, in inputs of the network, that are enlarged one by one."""
    rows, columns = (_spans(length, unshuffle, tile, grid) for length in size)
    return [(row, column) for row in rows for column in columns]


def _spans(length: int, unshuffle: int, tile: int, grid: int) -> list[slice]:
    """The parts along one axis: the fewest that fit a tile with their margins, each as short as can be."""
    side, overlap, margin = tile // unshuffle, OVERLAP // unshuffle, _margin(unshuffle, tile, grid)
    side -= side % grid
    if length <= side:
        return [slice(0, length)]
    most = max(side - 2 * margin - 2 * (grid - 1), overlap + 1)
    count = 1 + math.ceil((length - most) / (most - overlap))
    needed = math.ceil((length + (count - 1) * overlap) / count)
    return [rows for rows, _ in windows(length, 1, needed, overlap)]


def _margin(unshuffle: int, tile: int, grid: int) -> int:
    """Inputs that a tile sees beyond its part; fewer in small tiles of a grid, which takes room itself."""
    return MARGIN // unshuffle if grid == 1 else min(MARGIN, tile // 4)


def _seen(side: slice, margin: int, grid: int) -> slice:
    """What the network sees for `side`: a margin more, from a multiple of `grid` to another."""
    start, stop = max(0, side.start - margin), side.stop + margin
    return slice(start - start % grid, stop + -stop % grid)


def _within(side: slice, outer: slice, factor: int) -> slice:
    """Where the result for `side` is in the result for the larger `outer`."""
    return slice((side.start - outer.start) * factor, (side.stop - outer.start) * factor)
