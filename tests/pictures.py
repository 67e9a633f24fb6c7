"""Pictures that tests start from."""

import numpy as np
from PIL import Image, ImageDraw


def photo(width: int = 64, height: int = 64, mode: str = "RGB") -> Image.Image:
    """A picture with colours, gradients and edges."""
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([columns * 255 // width, rows * 255 // height, (rows + columns) * 3 % 256], -1)
    image = Image.fromarray(pixels.astype(np.uint8))
    ImageDraw.Draw(image).ellipse((width // 4, height // 4, width // 2, height // 2), fill=(230, 40, 40))
    return image.convert(mode)


def half_mask(width: int = 64, height: int = 64) -> Image.Image:
    """A mask whose right half is white."""
    mask = Image.new("L", (width, height), 0)
    mask.paste(255, (width // 2, 0, width, height))
    return mask
