"""The ancestral step: a deterministic step down, then fresh noise; shared by the ancestral samplers."""

import math

from sdcli.diffusion.ranges import check_range


def ancestral_step(sigma: float, lower: float, eta: float, lowest: float = 0.0) -> tuple[float, float]:
    """(down, up): step from sigma to `down`, then add `up` times unit noise; down^2 + up^2 = lower^2.

    up is eta times the standard deviation of the forward process' posterior (Song et al. 2020, DDIM, equation 16, in
    sigma), but at most `lower`; eta 0 adds no noise. `down` is not below `lowest`, nor above `lower`.
    """
    check_range("eta", eta, 0, 10)
    up = min(lower, eta * lower * math.sqrt(max(sigma**2 - lower**2, 0.0)) / sigma)
    down = math.sqrt(lower**2 - up**2)
    if down >= lowest:
        return down, up
    down = min(lowest, lower)
    return down, math.sqrt(lower**2 - down**2)
