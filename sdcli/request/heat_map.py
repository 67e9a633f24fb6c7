"""Heat map: a plane of numbers as colours over a picture, dark blue where they are low and light yellow where high."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

COLOURS = ((18, 14, 66), (92, 26, 120), (184, 48, 96), (238, 128, 56), (255, 240, 160))
"""Evenly spaced from low to high. Each is lighter than the one before it, so that the order is seen in grey as well."""
OPACITY = 0.65


def heat_map(image: Image, plane: NDArray[np.float32]) -> Image:
    """The picture (RGB) under the colours of `plane` (height, width), from its lowest value to its highest.

    A plane that is the same everywhere is all of the lowest colour.
    """
    import numpy as np
    from PIL import Image

    low, high = float(plane.min()), float(plane.max())
    heat = (plane - low) / (high - low) if high > low else np.zeros_like(plane)
    stops = np.linspace(0, 1, len(COLOURS))
    colours = np.stack([np.interp(heat, stops, channel) for channel in np.transpose(COLOURS)], -1)
    pixels = np.asarray(image.convert("RGB"), np.float64)
    mixed = colours * OPACITY + pixels * (1 - OPACITY)
    return Image.fromarray(mixed.round().astype(np.uint8))
