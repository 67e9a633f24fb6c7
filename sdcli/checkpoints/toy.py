"""Toy: the models `test:sd1` and the like: a family's networks at toy width, with random weights from a seed.

They draw nothing worth seeing, but within milliseconds and without a download, so a script can try every option.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sdcli import registry
from sdcli.checkpoints.family import Config, Family
from sdcli.errors import ModelError

MODELS = {
    "test:sd1": ("sd1", "epsilon"),
    "test:sd2": ("sd2", "epsilon"),
    "test:sd2-v": ("sd2", "v_prediction"),
    "test:inpaint": ("sd1_inpaint", "epsilon"),
    "test:depth": ("sd2_depth", "epsilon"),
    "test:pix2pix": ("pix2pix", "epsilon"),
    "test:x4": ("x4_upscaler", "v_prediction"),
    "test:sdxl": ("sdxl", "epsilon"),
    "test:refiner": ("sdxl_refiner", "epsilon"),
}
"""Name -> (family, prediction type)."""

MARK = "sdcli.test_model"
"""Key in the metadata of a single file that holds a test model: its name, in place of the configs."""

SIZE = 64  # pixels
WIDTH = 16  # of the text, and of every level of the U-Net
VAE_WIDTH = 8
TIME_ID_WIDTH = 8
_NARROW_TRANSFORMER = {"hidden_size": WIDTH, "intermediate_size": 32, "num_attention_heads": 2}


def family(name: str) -> tuple[Family, str]:
    """The family, at toy width, and the prediction type of a test model; raises ModelError for an unknown name."""
    if name not in MODELS:
        raise ModelError(f"no test model is called {name!r}; {registry.nearest(name, list(MODELS))}")
    family_name, prediction = MODELS[name]
    found = registry.find("families", family_name)
    return replace(found, configs=configs(found), size=SIZE), prediction


def configs(family: Family) -> dict[str, Config]:
    """The family's configs at toy width: as many levels and as many kinds of layers, but narrow ones."""
    return {part: _narrow(part, config, family) for part, config in family.configs.items()}


def _narrow(part: str, config: Config, family: Family) -> Config:
    if part == "unet":
        return _narrow_unet(config, family)
    if part == "vae":
        return {
            **config,
            "norm_num_groups": 4,
            "block_out_channels": [VAE_WIDTH] * len(config["block_out_channels"]),
        }
    return _narrow_depth(config) if part == "depth_estimator" else _narrow_text_encoder(config)


def _narrow_text_encoder(config: Config) -> Config:
    layers = min(3, config["num_hidden_layers"])
    return {**config, **_NARROW_TRANSFORMER, "projection_dim": WIDTH, "num_hidden_layers": layers}


def _narrow_unet(config: Config, family: Family) -> Config:
    narrow: dict[str, Any] = {
        "sample_size": SIZE // 2 ** (len(family.configs["vae"]["block_out_channels"]) - 1),
        "norm_num_groups": 4,
        "block_out_channels": [WIDTH] * len(config["block_out_channels"]),
        "cross_attention_dim": WIDTH * len(family.text_encoders),
        "attention_head_dim": 2,
        "layers_per_block": 1,
        "transformer_layers_per_block": 1,
    }
    if "addition_time_embed_dim" in config:
        narrow["addition_time_embed_dim"] = TIME_ID_WIDTH
        narrow["projection_class_embeddings_input_dim"] = WIDTH + family.time_ids * TIME_ID_WIDTH
    return {**config, **narrow}


def _narrow_depth(config: Config) -> Config:
    """The depth network for pictures of 64 pixels, with one block a stage."""
    stages = {"embedding_size": WIDTH, "hidden_sizes": [WIDTH, 24, 32], "depths": [1, 1, 1], "num_groups": 4}
    return {
        **config,
        **_NARROW_TRANSFORMER,
        "fusion_hidden_size": WIDTH,
        "image_size": SIZE,
        "backbone_config": {**config["backbone_config"], **stages},
        "backbone_featmap_shape": [1, 32, SIZE // 16, SIZE // 16],
        "neck_hidden_sizes": [WIDTH, 24, WIDTH, WIDTH],
    }
