"""Family: one kind of checkpoint: its networks' shapes, how its text encoders are used, its defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sdcli import registry
from sdcli.errors import ModelError

Config = Mapping[str, Any]
"""A network's config.json, with diffusers' and transformers' keys."""


@dataclass(frozen=True)
class UNetSignature:
    """Three widths of a U-Net, by which families are told apart."""

    channels: int  # of its input
    context: int  # of the text that its cross-attention reads
    added: int = 0  # of what is added to its time embedding: pooled text and sizes, in SDXL


@dataclass(frozen=True)
class TextEncoderUse:
    """How one text encoder is used: the padding of its prompts, and which of its states the U-Net reads."""

    pad: int = 49407  # token id
    layer: int = 1  # whose state is read, counted from the end: 1 is the last
    norm: bool = True  # send that state through the final layer norm
    pooled: bool = False  # add the projected state of the end token to the time embedding


@dataclass(frozen=True)
class Family:
    """One kind of checkpoint, and the defaults that its models are drawn with."""

    name: str
    summary: str
    signature: UNetSignature
    configs: Mapping[str, Config] = field(
        default_factory=dict
    )  # by component, for single files, which have none
    text_encoders: Mapping[str, TextEncoderUse] = field(
        default_factory=lambda: {"text_encoder": TextEncoderUse()}
    )
    prediction: str = "epsilon"
    levels: Config = field(default_factory=dict)  # its noise levels, with scheduler_config.json's keys
    size: int = 512  # pixels
    steps: int = 20
    cfg: float = 7.0
    sampler: str = "dpmpp_2m"
    schedule: str = "karras"
    own_sampling: bool = False  # these two hold whatever the scheduler_config.json of a folder says
    guidance: str = "cfg"
    strength: float = 0.75  # of a run that starts from a picture
    clip_skip: int = 1
    """The layer that its U-Net was trained with, counted from the published text encoder's last, which is 1."""
    emphasis: str = "a1111"
    """How the weights of words act on the text encoder's output, as --emphasis says it."""
    embeds_guidance: bool = False
    """Its U-Net is told the guidance scale, and so asked for the prompt alone (latent consistency models)."""
    zero_empty: bool = False  # an empty negative prompt is all zeros, as in training
    pipeline: str = "StableDiffusionPipeline"  # diffusers' class, for model_index.json
    aesthetic: tuple[
        float, ...
    ] = ()  # scores that replace the target size: the prompt's, the negative prompt's

    @property
    def time_ids(self) -> int:
        """How many numbers SDXL's U-Nets are told: original size, crop, and target size or aesthetic score."""
        return 5 if self.aesthetic else 6


def consistency_model(family: Family) -> Family:
    """The family as a latent consistency model was distilled from it: few steps, the guidance scale an input.

    Luo et al. 2023, "Latent Consistency Models": 4 steps among 50, guidance scale 8.
    """
    return replace(
        family, embeds_guidance=True, steps=4, cfg=8.0, sampler="lcm", schedule="trailing:among=50"
    )


def recognise(signature: UNetSignature, name: str) -> Family:
    """The family whose U-Net has this signature; raises ModelError if there is none. `name` is the model's."""
    for candidate in registry.names("families"):
        family = registry.find("families", candidate)
        if family.signature == signature:
            return family
    seen = f"{signature.channels} input channels, text width {signature.context}"
    known = ", ".join(registry.names("families"))
    raise ModelError(f"{name}: a network of no known family ({seen}); known are: {known}")
