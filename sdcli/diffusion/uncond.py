"""The unguided estimate that a guided one carries along, for the samplers that need both (CFG++).

It rides on the tensor itself, so a wrapper of a Denoise that returns the same tensor passes it on without knowing of
it. It is a function, so a guidance that has not computed it calls the network only if a sampler asks.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def with_uncond(denoised: Tensor, uncond: Callable[[], Tensor]) -> Tensor:
    """The same tensor, for which `uncond_of` now returns uncond()."""
    denoised._uncond = uncond  # type: ignore[attr-defined]
    return denoised


def uncond_of(denoised: Tensor) -> Tensor:
    """The estimate without the prompt at the same x; `denoised` itself if it carries none."""
    uncond: Callable[[], Tensor] | None = getattr(denoised, "_uncond", None)
    return denoised if uncond is None else uncond()
