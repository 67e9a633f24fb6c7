"""Distilled: how a LoRA or a model that draws in few steps is meant to be used."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.request.request import Request

TITLES = ("modelspec.title", "ss_output_name", "ss_training_comment")
"""Where the metadata say what a LoRA is."""


@dataclass(frozen=True)
class Distilled:
    """A way of distilling a model to few steps, and what its LoRAs are used with.

    `steps` are the usual ones, if the name of the file does not say how many.
    """

    name: str
    words: str  # a regular expression for what its files call themselves
    sampler: str
    schedule: str
    steps: int
    cfg: float = 1.0


DISTILLED = (
    Distilled("LCM", r"lcm|latent[ _-]?consistency", "lcm", "", 4),
    Distilled("Hyper-SD", r"hyper[ _-]?sd", "tcd", "", 8),
    Distilled("TCD", r"tcd", "tcd", "", 4),
    Distilled("Lightning", r"lightning", "euler", "sgm_uniform", 4),
    Distilled("DMD2", r"dmd2?", "lcm", "", 4),
    Distilled("Turbo", r"turbo", "euler_a", "trailing", 4),
)
"""Luo et al. 2023 (LCM-LoRA), Ren et al. 2024 (Hyper-SD), Zheng et al. 2024 (TCD), Lin et al. 2024 (SDXL-Lightning),
Yin et al. 2024 (DMD2), Sauer et al. 2023 (Turbo). Each name is looked for as a whole word, in this order."""


def model_notes(found: Checkpoint, asked: Request) -> Iterator[str]:
    """What is to be said of a model that does not say by itself that it was distilled to few steps."""
    header = found.components["unet"].header
    if header is None or found.family.cfg == 1:
        return
    if line := hint(Path(found.name).name, header.metadata, asked):
        yield line


def hint(name: str, metadata: Mapping[str, str], asked: Request) -> str:
    """A line that says how a file is meant to be used, if it is asked to be used otherwise; else empty.

    It goes by what the file's name and its metadata call it.
    """
    named = " ".join([*(metadata.get(key, "") for key in TITLES), name]).lower()
    for kind in DISTILLED:
        if re.search(rf"(?<![a-z])(?:{kind.words})(?![a-z])", named):
            options = _options(kind, named, asked)
            return f"{name} is for few steps ({kind.name}); it is meant for {options}" if options else ""
    return ""


def _options(kind: Distilled, named: str, asked: Request) -> str:
    """Those of the options that were not asked for."""
    match = re.search(r"(\d+)[ _-]?steps?", named)
    wanted = {
        "sampler": kind.sampler,
        "schedule": kind.schedule,
        "steps": int(match[1]) if match and 0 < int(match[1]) <= 50 else kind.steps,
        "cfg": f"{kind.cfg:g}",
    }
    return " ".join(
        f"--{name} {value}" for name, value in wanted.items() if value and getattr(asked, name) is None
    )
