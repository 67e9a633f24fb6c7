"""The split of a step into a deterministic fall and fresh noise, shared by the ancestral samplers."""

import math

from sdcli.diffusion.ranges import check_range


def ancestral_step(sigma: float, lower: float, eta: float) -> tuple[float, float]:
    """(down, up): fall to `down`, then add `up` unit noise, so that down^2 + up^2 = lower^2.

    eta 0 adds none, eta 1 is the posterior of the forward process (Song et al. 2020, DDIM, eq. 16, in sigma).
    """
    check_range("eta", eta, 0, 10)
    up = min(lower, eta * lower * math.sqrt(max(sigma**2 - lower**2, 0.0)) / sigma)
    return math.sqrt(lower**2 - up**2), up
