"""Comparison: how a picture that was made again differs from the one that was kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["identical", "same_pixels", "rounding", "different", "failed"]
"""identical: the same bytes. same_pixels: only the metadata differ. rounding: the same arithmetic, rounded otherwise,
by another machine, torch or number of threads. different: anything else. failed: it could not be made again."""


@dataclass(frozen=True)
class Comparison:
    """How two pictures differ, over all values of all pixels, and what differs of how they were made.

    `reasons` are fact -> (before, now), of what decides the last bits or more: threads, arithmetic, torch, dtype,
    device, sdcli, model, …
    """

    verdict: Verdict
    max: int = 0  # largest difference of a value, of 255
    changed: float = 0.0  # share of the pixels that differ, 0 … 1
    psnr: float = float("inf")  # decibels; infinite for equal pixels
    reasons: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    message: str = ""  # one line for a person
    is_measured: bool = (
        True  # False: the figures say nothing, as size or mode differ, or only a hash is known
    )

    @property
    def passes(self) -> bool:
        """True if it is the same picture."""
        return self.verdict in ("identical", "same_pixels", "rounding")
