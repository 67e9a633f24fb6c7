"""Toy: the networks of a family at toy width, with seeded random weights; what `test:sd1` and its like stand for.

They draw nothing worth seeing, in no time and without a download: a script can try every option with them.
"""

from __future__ import annotations

from collections.abc import Mapping
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

SIZE = 64  # pixels
WIDTH = 16  # of the text and of the narrowest level


def family(name: str) -> tuple[Family, str]:
    """The family and prediction type of a test model's name; raises ModelError for one there is not."""
    if name not in MODELS:
        raise ModelError(f"no test model is called {name!r}; {registry.nearest(name, list(MODELS))}")
    kind, prediction = MODELS[name]
    return registry.find("families", kind), prediction


def configs(of: Family) -> dict[str, Config]:
    """The family's configs at toy width: as many levels and layers of every kind, but narrow ones."""
    return {part: _shrunk(config, of) for part, config in of.configs.items()}


def _shrunk(config: Config, of: Family) -> Mapping[str, Any]:
    if config.get("is_hybrid"):
        return _shrunk_depth(config)
    small: dict[str, Any] = {"norm_num_groups": 4}
    if "hidden_size" in config:
        layers = min(3, config["num_hidden_layers"])
        narrow = {
            "hidden_size": WIDTH,
            "intermediate_size": 32,
            "num_attention_heads": 2,
            "projection_dim": WIDTH,
        }
        return {**config, **narrow, "num_hidden_layers": layers}
    levels = len(config["block_out_channels"])
    small["block_out_channels"] = [8] * levels if "latent_channels" in config else [WIDTH] * levels
    if "cross_attention_dim" in config:
        small["cross_attention_dim"] = WIDTH * len(of.text_encoders)
        small["attention_head_dim"] = 2
        small["layers_per_block"] = 1
        small["transformer_layers_per_block"] = 1
        if "addition_time_embed_dim" in config:
            small["addition_time_embed_dim"] = 8
            small["projection_class_embeddings_input_dim"] = WIDTH + (5 if of.aesthetic else 6) * 8
    return {**config, **small}


def _shrunk_depth(config: Config) -> Mapping[str, Any]:
    """Of pictures of 64 pixels, and with one block a stage."""
    narrow = {
        "hidden_size": WIDTH,
        "intermediate_size": 32,
        "num_attention_heads": 2,
        "fusion_hidden_size": WIDTH,
    }
    stages = {"embedding_size": WIDTH, "hidden_sizes": [WIDTH, 24, 32], "depths": [1, 1, 1], "num_groups": 4}
    return {
        **config,
        **narrow,
        "image_size": SIZE,
        "backbone_config": {**config["backbone_config"], **stages},
        "backbone_featmap_shape": [1, 32, SIZE // 16, SIZE // 16],
        "neck_hidden_sizes": [WIDTH, 24, WIDTH, WIDTH],
    }
