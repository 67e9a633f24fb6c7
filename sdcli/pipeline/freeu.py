"""FreeU of a job: its factors, with those of the model's family where it names none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdcli.adapters.freeu import freeu
from sdcli.errors import ModelError
from sdcli.models.offload import Adapter
from sdcli.request.freeu import NUMBERS, FreeU
from sdcli.request.job import Job

FACTORS = {"sd2": (1.4, 1.6, 0.9, 0.2), "sdxl": (1.3, 1.4, 0.9, 0.2)}
"""How the name of a family begins -> b1, b2, s1 and s2, as the authors of FreeU recommend them."""
OTHER_FACTORS = (1.5, 1.6, 0.9, 0.2)


def freeu_of(job: Job, family: str) -> Adapter | None:
    """The adapter of a job's FreeU for a model of this family; None if the job has none."""
    if not job.freeu:
        return None
    (asked,) = job.freeu
    own = next((factors for name, factors in FACTORS.items() if family.startswith(name)), OTHER_FACTORS)
    given = [getattr(asked, name) for name in NUMBERS]
    b1, b2, s1, s2 = (value if given is None else given for given, value in zip(given, own, strict=True))
    return freeu([(b1, s1), (b2, s2)], _by(asked, job.like), asked.version)


def check_freeu(job: Job, name: str, unet: Mapping[str, Any]) -> None:
    """Raise ModelError if a job's FreeU would do nothing in the U-Net with this config; `name` is the model's."""
    if not job.freeu or _by(job.freeu[0], job.like) == "block":
        return
    widths = list(unet["block_out_channels"])
    stages = (4 * widths[0], 2 * widths[0])
    if not set(stages) & set(widths[1:]):
        raise ModelError(
            f"{name}: its U-Net has no features of width {stages[0]} or {stages[1]} for --freeu to act on; "
            "give --freeu auto,by=block"
        )


def _by(asked: FreeU, like: str) -> str:
    return asked.by or ("block" if like == "diffusers" else "width")
