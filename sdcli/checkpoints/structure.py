"""Structure: the family of a diffusers folder whose networks have no published width, by what the folder is made of.

diffusers' own tests, and people who try things out, save pipelines of narrow networks. model_index.json names the class
of the pipeline; the networks that are there and the U-Net's channels tell the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sdcli import registry
from sdcli.checkpoints.component import Component, read_config
from sdcli.checkpoints.family import Family, UNetSignature

PIPELINES = frozenset(
    [
        "StableDiffusionPipeline",
        "StableDiffusionImg2ImgPipeline",
        "StableDiffusionInpaintPipeline",
        "StableDiffusionControlNetPipeline",
        "StableDiffusionDepth2ImgPipeline",
        "StableDiffusionInstructPix2PixPipeline",
        "StableDiffusionUpscalePipeline",
        "StableDiffusionXLPipeline",
        "StableDiffusionXLImg2ImgPipeline",
        "StableDiffusionXLInpaintPipeline",
        "StableDiffusionXLControlNetPipeline",
        "LatentConsistencyModelPipeline",
        "LatentConsistencyModelImg2ImgPipeline",
    ]
)
"""Classes of diffusers' pipelines that draw with a model of a family known here, and need nothing else of it."""


def pipeline_of(folder: Path) -> str:
    """The class of the pipeline that model_index.json names, or nothing."""
    index = read_config(folder / "model_index.json") if (folder / "model_index.json").is_file() else {}
    return str(index.get("_class_name", ""))


def family_of(folder: Path, signature: UNetSignature, components: Mapping[str, Component]) -> Family | None:
    """The family whose models are made of these components; None if the pipeline's class is of no known family.

    Stable Diffusion 1 and 2 are told apart by the activation of their text encoders.
    """
    pipeline = pipeline_of(folder)
    if pipeline not in PIPELINES:
        return None
    families = [registry.find("families", name) for name in registry.names("families")]
    fitting = [family for family in families if _fits(family, signature, components)]
    return min(fitting, key=lambda family: _differences(family, pipeline, components), default=None)


def _fits(family: Family, signature: UNetSignature, components: Mapping[str, Component]) -> bool:
    """True if the family has configs, these text encoders, and a U-Net that reads as many channels and as much text."""
    encoders = {part for part in components if part.startswith("text_encoder")}
    return (
        bool(family.configs)
        and family.signature.channels == signature.channels
        and bool(family.signature.added) == bool(signature.added)
        and set(family.text_encoders) == encoders
    )


def _differences(family: Family, pipeline: str, components: Mapping[str, Component]) -> tuple[bool, bool]:
    encoder = next(iter(family.text_encoders))
    ours, theirs = family.configs[encoder]["hidden_act"], components[encoder].config.get("hidden_act")
    return (ours != (theirs or "quick_gelu"), family.pipeline != pipeline)
