"""U-Net layout: the settings of a U-Net in a single file that the names of its tensors show.

A single file brings no config, so a family's own stands for it. Models that were made by leaving out layers (SSD-1B,
Segmind Vega, KOALA) or by adding one (LCM) differ from it in what is read here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from sdcli.checkpoints import network_config
from sdcli.checkpoints.family import Config

Depths = list[list[int]]
"""For each level, the number of transformer blocks after each of its residual blocks; empty without transformers."""

Counts = dict[tuple[str, int, str | int], int]
"""(side, level, kind of layer) -> how many; (side, level, number of a transformer) -> how many blocks it has."""

_LAYER = re.compile(
    r"(down_blocks|up_blocks)\.(\d+)\.(resnets|attentions)\.(\d+)\.(?:transformer_blocks\.(\d+)\.)?"
)


def config_of(usual: Config, names: Iterable[str], guidance_width: int) -> Config:
    """`usual`, the family's config, with what the tensors `names` show to be different.

    `guidance_width` is that of the guidance embedding of a latent consistency model, 0 for any other model.
    """
    names = list(names)
    settings = network_config.settings("unet", usual)
    count = len(settings["block_out_channels"])
    counts = _counts(names)
    down, up = _depths(counts, "down_blocks", count), _depths(counts, "up_blocks", count)
    layers = [counts.get(("down_blocks", level, "resnets"), 0) for level in range(count)]
    found: dict[str, Any] = {
        "down_block_types": [("CrossAttn" if depths else "") + "DownBlock2D" for depths in down],
        "up_block_types": [("CrossAttn" if depths else "") + "UpBlock2D" for depths in up],
        "mid_block_type": _middle(names),
        "layers_per_block": layers,
    }
    usual_layers = network_config.per_level(settings["layers_per_block"], count)
    changed = {key: value for key, value in found.items() if value != settings[key]}
    if layers == usual_layers:
        changed.pop("layers_per_block", None)
    if (down, up) != _usual_depths(settings, usual_layers):
        changed["transformer_layers_per_block"] = [depths or 1 for depths in down]
        changed["reverse_transformer_layers_per_block"] = [depths or 1 for depths in up]
    if guidance_width:
        changed["time_cond_proj_dim"] = guidance_width
    return {**usual, **changed}


def _counts(names: Iterable[str]) -> Counts:
    """How many layers of each kind the names show: one more than the highest number, at most MAX_LAYERS."""
    counts: Counts = {}

    def count(key: tuple[str, int, str | int], number: str) -> None:
        counts[key] = max(counts.get(key, 0), min(_number(number) + 1, network_config.MAX_LAYERS))

    for found in filter(None, map(_LAYER.match, names)):
        side, level, kind, layer, depth = found.groups()
        count((side, _number(level), kind), layer)
        if kind == "attentions" and depth is not None:
            count((side, _number(level), _number(layer)), depth)
    return counts


def _number(digits: str) -> int:
    return int(digits[:4])  # a longer one is above MAX_LAYERS, and could be too long to read


def _depths(counts: Counts, side: str, levels: int) -> Depths:
    """The depths of the transformers on the encoder or decoder side."""
    return [
        [counts.get((side, level, i), 0) for i in range(counts.get((side, level, "attentions"), 0))]
        for level in range(levels)
    ]


def _usual_depths(settings: dict[str, Any], layers: list[int]) -> tuple[Depths, Depths]:
    """(on the encoder side, on the decoder side) as the settings say."""
    count = len(layers)
    depths = network_config.per_level(settings["transformer_layers_per_block"], count)
    reverse = settings["reverse_transformer_layers_per_block"] or depths[::-1]
    down = [
        network_config.depths_of(depths[i], layers[i]) if kind == "CrossAttnDownBlock2D" else []
        for i, kind in enumerate(settings["down_block_types"])
    ]
    up = [
        network_config.depths_of(reverse[i], layers[::-1][i] + 1) if kind == "CrossAttnUpBlock2D" else []
        for i, kind in enumerate(settings["up_block_types"])
    ]
    return down, up


def _middle(names: list[str]) -> str | None:
    """The kind of the middle block."""
    if not any(name.startswith("mid_block.resnets.") for name in names):
        return None
    attends = any(name.startswith("mid_block.attentions.") for name in names)
    return "UNetMidBlock2DCrossAttn" if attends else "UNetMidBlock2D"
