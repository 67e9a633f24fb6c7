"""Unguided: a guided estimate carries the one without the prompt, for the samplers that need both (CFG++).

The tensor itself carries it, so whatever wraps a Denoise and returns its estimate passes it on unknowingly. It is
carried as a function, so that a guidance that has not computed it pays only when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def with_uncond(denoised: Tensor, estimate: Callable[[], Tensor]) -> Tensor:
    """The same tensor, which can now answer `unguided`."""
    denoised._uncond = estimate  # type: ignore[attr-defined]
    return denoised


def uncond_of(denoised: Tensor) -> Tensor:
    """The estimate of the negative prompt alone at the same x; of a plain denoiser, its one estimate."""
    estimate = getattr(denoised, "_uncond", None)
    return denoised if estimate is None else estimate()
