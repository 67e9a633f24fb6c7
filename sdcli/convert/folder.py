"""Folder: a checkpoint as a diffusers folder, which opens and draws in diffusers.

What a folder says that no network here reads (the class of its scheduler, the processor of a depth network) is kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

import sdcli
from sdcli.checkpoints import shards, structure, tokenizer_folder
from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.checkpoints.component import read_config
from sdcli.convert.single_file import DEFAULT_SCHEDULE
from sdcli.convert.tensors import OutputTensor, Shapes, safetensors, weights_of
from sdcli.diffusion.levels import DDPM_BETAS

LIBRARY_CLASSES = {
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "text_encoder_2": ("transformers", "CLIPTextModelWithProjection"),
    "depth_estimator": ("transformers", "DPTForDepthEstimation"),
    "tokenizer": ("transformers", "CLIPTokenizer"),
    "tokenizer_2": ("transformers", "CLIPTokenizer"),
    "feature_extractor": ("transformers", "DPTImageProcessor"),
    "low_res_scheduler": ("diffusers", "DDPMScheduler"),
}
"""Folder of a diffusers folder -> the library and the class that open it."""
TINY_AUTOENCODER_CLASS = ("diffusers", "AutoencoderTiny")
OLDEST_DIFFUSERS = "0.36.0"  # that opens such a folder

Json = dict[str, object]

SCHEDULERS: dict[str, Json] = {
    "dpmpp_2m": {"_class_name": "DPMSolverMultistepScheduler", "use_karras_sigmas": True},
    "lcm": {"_class_name": "LCMScheduler"},
    "ddim": {
        "_class_name": "DDIMScheduler",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
    },
}
"""Sampler of a family -> the scheduler of a model whose files name none; diffusers then draws as `sd` does."""
LOW_RES_SCHEDULER = {
    "_class_name": "DDPMScheduler",
    "beta_start": DDPM_BETAS[0],
    "beta_end": DDPM_BETAS[1],
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
}
"""Adds the noise to the x4 upscaler's small picture, as its published folder has it."""

INDEX, SCHEDULER, PROCESSOR = "model_index.json", "scheduler_config.json", "preprocessor_config.json"
PIPELINE_SETTINGS = ("force_zeros_for_empty_prompt", "requires_aesthetics_score", "max_noise_level")
"""Settings of a pipeline in model_index.json that are kept as the folder had them."""


def contents(
    checkpoint: Checkpoint, shapes: Mapping[str, Shapes], dtype: torch.dtype | None
) -> Iterator[tuple[str, bytes | Iterator[bytes]]]:
    """(name in the folder, contents) of each file."""
    for part, component in checkpoint.components.items():
        weights = weights_of(part, component)
        tensors = [
            OutputTensor(_library_name(part, name), shape, weights, [name])
            for name, shape in shapes[part].items()
        ]
        yield f"{part}/{shards.stem_of(part)}.safetensors", safetensors(tensors, dtype)
        yield f"{part}/config.json", _json(_config(checkpoint, part))
    for part, tokenizer in checkpoint.tokenizers.items():
        for name, data in tokenizer_folder.contents(tokenizer).items():
            yield f"{_tokenizer_of(part)}/{name}", data
    for name, settings in _other_configs(checkpoint).items():
        yield name, _json(settings)
    yield INDEX, _json(_index(checkpoint))


def _library_name(part: str, name: str) -> str:
    """A tensor's name in a diffusers folder."""
    if part.startswith("text_encoder") and name != "text_projection.weight":
        return f"text_model.{name}"
    return name


def _tokenizer_of(text_encoder: str) -> str:
    return text_encoder.replace("text_encoder", "tokenizer")


def _config(checkpoint: Checkpoint, part: str) -> Json:
    """config.json of a component, with the class that opens it."""
    library, class_name = _library_class(checkpoint, part)
    config = checkpoint.components[part].config
    if library == "diffusers":
        return {**config, "_class_name": class_name}
    # opened in float32 unless another dtype is asked for, as diffusers opens its own classes
    return {**config, "architectures": [class_name], "dtype": "float32"}


def _library_class(checkpoint: Checkpoint, part: str) -> tuple[str, str]:
    """The library and the class that open a folder of the checkpoint."""
    if part == "vae" and "encoder_block_out_channels" in checkpoint.components["vae"].config:
        return TINY_AUTOENCODER_CLASS
    return LIBRARY_CLASSES[part]


# --- what is beside the networks


def _other_configs(checkpoint: Checkpoint) -> dict[str, Json]:
    """Name in the folder -> settings, of the parts that have no weights."""
    configs = {f"scheduler/{SCHEDULER}": _scheduler(checkpoint)}
    if _upscales(checkpoint):
        kept = _kept(checkpoint.path / "low_res_scheduler" / SCHEDULER)
        configs[f"low_res_scheduler/{SCHEDULER}"] = kept or dict(LOW_RES_SCHEDULER)
    if "depth_estimator" in checkpoint.components:
        kept = _kept(checkpoint.path / "feature_extractor" / PROCESSOR)
        configs[f"feature_extractor/{PROCESSOR}"] = kept or _depth_processor(checkpoint)
    return configs


def _upscales(checkpoint: Checkpoint) -> bool:
    return checkpoint.family.pipeline == "StableDiffusionUpscalePipeline"


def _kept(path: Path) -> Json:
    """The settings in a file of the folder that is converted, which may have no such file."""
    return read_config(path) if path.is_file() else {}


def _scheduler(checkpoint: Checkpoint) -> Json:
    """scheduler_config.json: that of the folder that is converted, or that of the family's sampler."""
    stated = checkpoint.schedule
    settings = (
        dict(stated)
        if "_class_name" in stated
        else {**DEFAULT_SCHEDULE, **_usual_scheduler(checkpoint), **stated}
    )
    if checkpoint.prediction != settings.get("prediction_type", "epsilon"):
        settings["prediction_type"] = checkpoint.prediction
    return settings


def _usual_scheduler(checkpoint: Checkpoint) -> Json:
    return SCHEDULERS.get(checkpoint.family.sampler, SCHEDULERS["ddim"])


def _depth_processor(checkpoint: Checkpoint) -> Json:
    """preprocessor_config.json of the depth network: a square of its size, bicubic, in -1 … 1, as we prepare it."""
    side = checkpoint.components["depth_estimator"].config["image_size"]
    return {
        "image_processor_type": "DPTImageProcessor",
        "do_resize": True,
        "size": {"height": side, "width": side},
        "resample": 3,
        "keep_aspect_ratio": False,
        "ensure_multiple_of": 1,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "do_pad": False,
    }


def _index(checkpoint: Checkpoint) -> Json:
    """model_index.json, by which diffusers opens the folder."""
    family = checkpoint.family
    parts = [*checkpoint.components, *map(_tokenizer_of, checkpoint.tokenizers)]
    index: Json = {part: list(_library_class(checkpoint, part)) for part in parts}
    index["scheduler"] = ["diffusers", _scheduler(checkpoint)["_class_name"]]
    for name, settings in _other_configs(checkpoint).items():
        part = name.partition("/")[0]
        if part != "scheduler":
            library, default = LIBRARY_CLASSES[part]
            index[part] = [
                library,
                settings.get("_class_name", settings.get("image_processor_type", default)),
            ]
    absent: list[str] = []
    if family.pipeline.startswith("StableDiffusionXL"):
        absent = ["text_encoder", "tokenizer", "image_encoder", "feature_extractor"]
        index["force_zeros_for_empty_prompt"] = family.zero_empty
        index |= {"requires_aesthetics_score": True} if family.aesthetic else {}
    elif "feature_extractor" not in index:  # the depth model's pipeline has no safety checker
        absent = ["safety_checker", "feature_extractor"]
        index |= {} if _upscales(checkpoint) else {"requires_safety_checker": False}
    index |= {part: [None, None] for part in absent if part not in index}
    kept = _kept(checkpoint.path / INDEX)
    index |= {key: kept[key] for key in PIPELINE_SETTINGS if key in kept}
    versions = {"_diffusers_version": OLDEST_DIFFUSERS, "_sdcli_version": sdcli.__version__}
    return {"_class_name": _pipeline(checkpoint), **versions, **index}


def _pipeline(checkpoint: Checkpoint) -> str:
    """The class of the pipeline: that of the folder that is converted, unless it needs what is not written."""
    kept = structure.pipeline_of(checkpoint.path)
    needs_more = kept not in structure.PIPELINES or "ControlNet" in kept
    return checkpoint.family.pipeline if needs_more else kept


def _json(value: Mapping[str, object]) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()
