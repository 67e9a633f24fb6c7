"""Midas: the depth network's names in a single file, those of MiDaS and timm <-> its names in a folder; pure text."""

from __future__ import annotations

import re
from collections.abc import Iterator

_BACKBONE = ("pretrained.model.patch_embed.backbone", "dpt.embeddings.backbone.bit")
_LAYER = ("pretrained.model.blocks.#", "dpt.encoder.layer.#")
_READ = ("pretrained.act_postprocess", "neck.reassemble_stage")
_UNITS = [(f"resConfUnit{u}.conv{c}", f"residual_layer{u}.convolution{c}") for u in (1, 2) for c in (1, 2)]

_NAMES = {  # a # is a number
    "pretrained.model.cls_token": "dpt.embeddings.cls_token",
    "pretrained.model.pos_embed": "dpt.embeddings.position_embeddings",
    "pretrained.model.patch_embed.proj": "dpt.embeddings.projection",
    "pretrained.model.norm": "dpt.layernorm",
    f"{_BACKBONE[0]}.stem.conv": f"{_BACKBONE[1]}.embedder.convolution",
    f"{_BACKBONE[0]}.stem.norm": f"{_BACKBONE[1]}.embedder.norm",
    f"{_BACKBONE[0]}.stages.#.blocks.#": f"{_BACKBONE[1]}.encoder.stages.#.layers.#",
    f"{_LAYER[0]}.norm1": f"{_LAYER[1]}.layernorm_before",
    f"{_LAYER[0]}.norm2": f"{_LAYER[1]}.layernorm_after",
    f"{_LAYER[0]}.attn.proj": f"{_LAYER[1]}.attention.output.dense",
    f"{_LAYER[0]}.mlp.fc1": f"{_LAYER[1]}.intermediate.dense",
    f"{_LAYER[0]}.mlp.fc2": f"{_LAYER[1]}.output.dense",
    **{f"{_READ[0]}{i + 1}.0.project.0": f"{_READ[1]}.readout_projects.{i}.0" for i in (2, 3)},
    **{f"{_READ[0]}{i + 1}.3": f"{_READ[1]}.layers.{i}.projection" for i in (2, 3)},
    f"{_READ[0]}4.4": f"{_READ[1]}.layers.3.resize",
    **{f"scratch.layer{i + 1}_rn": f"neck.convs.{i}" for i in range(4)},
    **{  # listing from the finest level there, from the coarsest here
        f"scratch.refinenet{4 - i}.{old}": f"neck.fusion_stage.layers.{i}.{new}"
        for i in range(4)
        for old, new in [("out_conv", "projection"), *_UNITS]
    },
    "scratch.output_conv": "head.head",
}


def targets(key: str) -> Iterator[tuple[str, str]]:
    """Where the tensor `key` goes: its name in a folder, and what to take of it; attention is packed in the file."""
    if m := re.fullmatch(r"pretrained\.model\.blocks\.(\d+)\.attn\.qkv\.(\w+)", key):
        for third, role in enumerate(_ROLES):
            yield f"dpt.encoder.layer.{m[1]}.attention.attention.{role}.{m[2]}", f"third {third}"
    else:
        yield _renamed(key, _THERE) or key, "all"


def source(name: str) -> tuple[str, str]:
    """The way back: the key in the file, and which part of that tensor this one is."""
    if m := re.fullmatch(r"dpt\.encoder\.layer\.(\d+)\.attention\.attention\.(\w+)\.(\w+)", name):
        return f"pretrained.model.blocks.{m[1]}.attn.qkv.{m[3]}", f"third {_ROLES.index(m[2])}"
    key = _renamed(name, _BACK)
    assert key is not None, f"no rule for {name}"
    return key, "all"


_ROLES = ("query", "key", "value")


def _rule(before: str, after: str) -> tuple[re.Pattern[str], str]:
    return re.compile(re.escape(before).replace(r"\#", r"(\d+)") + r"((?:\..+)?)"), after


_THERE = [_rule(old, new) for old, new in _NAMES.items()]
_BACK = [_rule(new, old) for old, new in _NAMES.items()]


def _renamed(name: str, rules: list[tuple[re.Pattern[str], str]]) -> str | None:
    for before, after in rules:
        if m := before.fullmatch(name):
            *numbers, rest = m.groups()
            for number in numbers:
                after = after.replace("#", number, 1)
            return after + rest
    return None
