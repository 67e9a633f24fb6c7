"""Family: what makes one kind of checkpoint different, and the defaults it brings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sdcli import registry
from sdcli.errors import ModelError

Configs = Mapping[str, Mapping[str, Any]]
"""Part of a model (unet, vae, text_encoder, scheduler) -> its config.json."""


@dataclass(frozen=True)
class Family:
    """One kind of checkpoint. `recognises(configs)` decides from shapes alone, never from a file's name."""

    name: str
    summary: str
    recognises: Callable[[Configs], bool]
    steps: int = 20
    cfg: float = 7.0
    sampler: str = "dpmpp_2m"
    schedule: str = "karras"
    clip_skip: int = 1


def recognise(configs: Configs, path: str) -> Family:
    """The family that these configs belong to; raises ModelError with what was seen if there is none."""
    for name in registry.names("families"):
        family: Family = registry.find("families", name)
        if family.recognises(configs):
            return family
    unet = configs["unet"]
    seen = f"{unet.get('in_channels')} input channels, text width {unet.get('cross_attention_dim')}"
    known = ", ".join(registry.names("families"))
    raise ModelError(f"{path}: a network of no known family ({seen}); known are: {known}")
