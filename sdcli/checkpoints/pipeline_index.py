"""Pipeline index: a folder's model_index.json. Each key and class is used, known to be harmless, or refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from sdcli.checkpoints import structure
from sdcli.checkpoints.component import PARTS, read_config
from sdcli.checkpoints.family import Family
from sdcli.errors import ModelError

HARMLESS_PARTS = frozenset(
    [
        *("tokenizer", "tokenizer_2", "scheduler", "low_res_scheduler", "safety_checker", "watermarker"),
        *("feature_extractor", "image_encoder"),  # image_encoder: for an IP-Adapter, if one is loaded
    ]
)
"""Parts of a pipeline that are read elsewhere, or that change no picture drawn from a prompt."""
HARMLESS_SETTINGS = frozenset(["requires_safety_checker", "add_watermarker", "max_noise_level"])
OTHER_MEANING = frozenset(
    [
        "StableDiffusionGLIGENPipeline",
        "StableDiffusionGLIGENTextImagePipeline",
        "StableDiffusionImageVariationPipeline",
        "StableDiffusionLatentUpscalePipeline",
        "StableDiffusionLDM3DPipeline",
        "StableDiffusionXLInstructPix2PixPipeline",
    ]
)
"""Classes of pipelines that begin as those drawn here, and do something else with their networks."""
_DRAWN = ("StableDiffusion", "LatentConsistencyModel", "OnnxStableDiffusion")
_NEXT = "another model is needed, or the pipeline's own program"


def applied(folder: Path, family: Family) -> Family:
    """The family with what the folder's model_index.json says of it; raises ModelError for what cannot be honoured."""
    path = folder / "model_index.json"
    if not path.is_file():
        return family
    index = read_config(path)
    _check_class(path, str(index.get("_class_name", "")))
    for key, value in index.items():
        if not key.startswith("_"):
            _check_key(path, key, value, family)
    if not structure.pipeline_of(folder).startswith("StableDiffusionXL"):
        return family
    return replace(family, zero_empty=bool(index.get("force_zeros_for_empty_prompt", True)))


def _check_class(path: Path, name: str) -> None:
    """Raise ModelError for a class that does something else with its networks than draw from a prompt."""
    if name and (name in OTHER_MEANING or not name.startswith(_DRAWN) or name.startswith("StableDiffusion3")):
        raise ModelError(f"{path}: a {name[:60]}, which sd does not know how to draw with; {_NEXT}")


def _check_key(path: Path, key: str, value: Any, family: Family) -> None:
    if isinstance(value, list):  # [library, class] of a part, or nulls for one that is left out
        if key not in PARTS and key not in HARMLESS_PARTS and any(value):
            raise ModelError(f"{path}: its pipeline has a part {key[:40]!r}, which sd does not load; {_NEXT}")
    elif key == "force_zeros_for_empty_prompt":
        if not isinstance(value, bool):
            raise ModelError(f"{path}: {key} {value!r:.40} is neither true nor false; fetch it again")
    elif key == "requires_aesthetics_score":
        if bool(value) != bool(family.aesthetic):
            raise ModelError(
                f"{path}: {key} {value!r:.40} is not what a {family.name} model takes; fetch it again"
            )
    elif key not in HARMLESS_SETTINGS and key not in HARMLESS_PARTS and value is not None:
        raise ModelError(f"{path}: the setting {key[:40]!r} is not known here; {_NEXT}")
