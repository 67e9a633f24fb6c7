"""Family: what makes one kind of checkpoint different: its networks' shapes, how its text is read, its defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sdcli import registry
from sdcli.errors import ModelError

Config = Mapping[str, Any]
"""A network's config.json, as diffusers and transformers read it."""


@dataclass(frozen=True)
class UNetSignature:
    """What tells families apart, from shapes alone: the U-Net's input channels, the width of the text it reads, and
    of what is added to its time embedding."""

    channels: int
    context: int
    added: int = 0


@dataclass(frozen=True)
class TextEncoderUse:
    """How one text encoder is read: what its prompts are padded with, which state is taken, and whether it pools.

    `layer` counts states from the end, 1 the last; `norm` sends it through the final norm; `pooled` adds the
    projected state of the end token to the time embedding.
    """

    pad: int = 49407
    layer: int = 1
    norm: bool = True
    pooled: bool = False


@dataclass(frozen=True)
class Family:
    """One kind of checkpoint. `configs` build its networks where a single file brings none."""

    name: str
    summary: str
    signature: UNetSignature
    configs: Mapping[str, Config] = field(default_factory=dict)
    text_encoders: Mapping[str, TextEncoderUse] = field(
        default_factory=lambda: {"text_encoder": TextEncoderUse()}
    )
    prediction: str = "epsilon"
    levels: Mapping[str, Any] = field(
        default_factory=dict
    )  # of its scheduler_config.json, where they are its own
    size: int = 512
    steps: int = 20
    cfg: float = 7.0
    sampler: str = "dpmpp_2m"
    schedule: str = "karras"
    guidance: str = "cfg"
    strength: float = 0.75  # of a run that starts from a picture
    clip_skip: int = 1
    zero_empty: bool = False  # an empty negative is told as zeros, as in training
    pipeline: str = "StableDiffusionPipeline"  # diffusers' class for it, as a model folder names it
    aesthetic: tuple[float, ...] = ()  # scores that prompt and negative are told instead of a size


def recognise(signature: UNetSignature, path: str) -> Family:
    """The family of these signature; raises ModelError with what was seen if there is none."""
    for name in registry.names("families"):
        family: Family = registry.find("families", name)
        if family.signature == signature:
            return family
    seen = f"{signature.channels} input channels, text width {signature.context}"
    known = ", ".join(registry.names("families"))
    raise ModelError(f"{path}: a network of no known family ({seen}); known are: {known}")
