from __future__ import annotations

import numpy as np
from PIL import Image

from sdcli.errors import UsageError
from sdcli.pipeline.annotators._edges import blurred, connected, gradients, ridges
from sdcli.pipeline.annotators._pixels import to_image, to_pixels


def canny(
    image: Image.Image,
    model: str = "tiny",
    device: str = "auto",
    *,
    low: float = 100.0,
    high: float = 200.0,
    blur: float = 0.0,
) -> Image.Image:
    """Edges, white on black, one pixel wide: where brightness changes by more than `high`, and on from there to `low`.

    Canny 1986, "A Computational Approach to Edge Detection": a Gaussian of `blur` pixels, Sobel's derivatives, the
    largest along the gradient, and hysteresis between two thresholds for |dx| + |dy|. The ControlNets for edges were
    trained on OpenCV's, which does not blur; without `blur` the edges are the same.
    """
    if low > high:
        raise UsageError(f"canny: low={low:g} is above high={high:g}; swap them")
    across, down = gradients(blurred(to_pixels(image), blur))
    magnitude = abs(across) + abs(down)
    peaks = ridges(across, down, magnitude)
    edges = connected(peaks & (magnitude > high), peaks & (magnitude > low))
    return to_image(edges.astype(np.float32) * 255)
