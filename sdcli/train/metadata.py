"""Metadata: what a trained file says of itself, in the words of kohya's scripts and of the model spec; all of it true.

There is no date in it, so that two runs give the same bytes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import sdcli
from sdcli.train.folder import Example
from sdcli.train.settings import Training

BASES = {
    "sd1": ("sd_v1", "stable-diffusion-v1"),
    "sd2": ("sd_v2", "stable-diffusion-v2-512"),
    "sdxl": ("sdxl_base_v1-0", "stable-diffusion-xl-v1-base"),
    "tiny": ("sdcli_tiny", "sdcli-tiny"),
}
"""Family -> kohya's name of the base model, and the model spec's architecture."""
V_BASES = {"sd2": ("sd_v2_768_v", "stable-diffusion-v2-768-v")}
"""Those of families whose models that predict v have names of their own."""


def shared(
    settings: Training,
    family: str,
    prediction: str,
    model_sha256: str,
    examples: Sequence[Example],
    steps: int,
) -> dict[str, str]:
    """What the files of both kinds of training say."""
    facts: dict[str, Any] = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.title": settings.path.stem,
        "modelspec.prediction_type": "v" if prediction == "v_prediction" else prediction,
        "ss_base_model_version": names_of_base(family, prediction)[0],
        "ss_v2": family == "sd2",
        "ss_new_sd_model_hash": model_sha256,
        "ss_output_name": settings.path.stem,
        "ss_steps": steps,
        "ss_max_train_steps": settings.steps,
        "ss_num_train_images": len(examples),
        "ss_batch_size_per_device": settings.batch,
        "ss_gradient_accumulation_steps": settings.accumulate,
        "ss_learning_rate": settings.lr,
        "ss_lr_scheduler": settings.lr_schedule,
        "ss_optimizer": settings.optimizer,
        "ss_seed": settings.seed,
        "ss_min_snr_gamma": settings.min_snr or None,
        "ss_cache_latents": True,
        "sd_trained_by": f"sdcli {sdcli.__version__}",
    }
    return {"format": "pt", **{key: str(value) for key, value in facts.items()}}


def of_lora(
    rank: int, alpha: float, conv_rank: int, architecture: str, examples: Sequence[Example]
) -> dict[str, str]:
    """What a LoRA says beside the facts of `shared`."""
    facts = {
        "modelspec.architecture": f"{architecture}/lora",
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": f"{alpha:g}",
        "ss_tag_frequency": json.dumps({"data": tag_counts(examples)}, ensure_ascii=False),
    }
    if conv_rank:
        convolutions = {"conv_dim": str(conv_rank), "conv_alpha": f"{alpha / rank * conv_rank:g}"}
        facts["ss_network_args"] = json.dumps(convolutions)
    return facts


def of_embedding(architecture: str, word: str) -> dict[str, str]:
    """What an embedding says beside the facts of `shared`."""
    return {
        "modelspec.architecture": f"{architecture}/textual-inversion",
        "modelspec.trigger_phrase": word,
    }


def names_of_base(family: str, prediction: str) -> tuple[str, str]:
    """kohya's name of the base model, and the model spec's architecture."""
    names = BASES | V_BASES if prediction == "v_prediction" else BASES
    return names[family]


def tag_counts(examples: Sequence[Example]) -> dict[str, int]:
    """How often each tag, a part of a caption between commas, occurs; the most frequent first."""
    counts = Counter(tag.strip() for each in examples for tag in each.caption.split(",") if tag.strip())
    return dict(counts.most_common())
