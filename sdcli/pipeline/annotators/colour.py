from __future__ import annotations

from PIL import Image

from sdcli.errors import UsageError


def colour(image: Image.Image, model: str = "tiny", device: str = "auto", *, cell: int = 64) -> Image.Image:
    """A coarse grid of the picture's colours, for T2I-Adapters for colours; cells of 64 pixels a side."""
    if not 1 <= cell <= 4096:
        raise UsageError(f"colour: cell={cell} is outside 1...4096")
    few = (max(1, image.width // cell), max(1, image.height // cell))
    grid = image.convert("RGB").resize(few, Image.Resampling.BICUBIC)
    return grid.resize(image.size, Image.Resampling.NEAREST)
