from __future__ import annotations

from PIL import Image

from sdcli.errors import UsageError


def tile(
    image: Image.Image, model: str = "tiny", device: str = "auto", *, shrink: float = 1.0
) -> Image.Image:
    """The picture itself, for nets that add details to it; with shrink=4 without its own finest ones.

    `shrink` is by how much each side is made smaller and enlarged again, 1 to 64.
    """
    if not 1 <= shrink <= 64:
        raise UsageError(f"tile: shrink={shrink:g} is outside 1...64")
    small = (max(1, round(image.width / shrink)), max(1, round(image.height / shrink)))
    if small == image.size:
        return image.convert("RGB")
    few = image.convert("RGB").resize(small, Image.Resampling.BOX)
    return few.resize(image.size, Image.Resampling.BICUBIC)
