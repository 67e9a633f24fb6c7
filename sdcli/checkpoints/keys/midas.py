"""MiDaS: the depth network's names in a single file, from MiDaS and timm <-> transformers' names, by one table."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sdcli.checkpoints.keys.rename import inverted, rename

_LAYERS = 12  # of the transformer
_STAGES, _BLOCKS = 3, 9  # of the ResNet, and the most blocks that a stage has
_ATTENTION = ("query", "key", "value")


def _modules() -> Iterator[tuple[str, str]]:
    """(MiDaS', transformers') names of the modules."""
    yield "pretrained.model.cls_token", "dpt.embeddings.cls_token"
    yield "pretrained.model.pos_embed", "dpt.embeddings.position_embeddings"
    yield "pretrained.model.patch_embed.proj", "dpt.embeddings.projection"
    yield "pretrained.model.norm", "dpt.layernorm"

    old, new = "pretrained.model.patch_embed.backbone", "dpt.embeddings.backbone.bit"
    yield f"{old}.stem.conv", f"{new}.embedder.convolution"
    yield f"{old}.stem.norm", f"{new}.embedder.norm"
    for stage in range(_STAGES):
        for block in range(_BLOCKS):
            yield f"{old}.stages.{stage}.blocks.{block}", f"{new}.encoder.stages.{stage}.layers.{block}"

    for number in range(_LAYERS):
        old, new = f"pretrained.model.blocks.{number}", f"dpt.encoder.layer.{number}"
        yield f"{old}.norm1", f"{new}.layernorm_before"
        yield f"{old}.norm2", f"{new}.layernorm_after"
        yield f"{old}.attn.proj", f"{new}.attention.output.dense"
        yield f"{old}.mlp.fc1", f"{new}.intermediate.dense"
        yield f"{old}.mlp.fc2", f"{new}.output.dense"

    for i in (2, 3):
        old, new = f"pretrained.act_postprocess{i + 1}", "neck.reassemble_stage"
        yield f"{old}.0.project.0", f"{new}.readout_projects.{i}.0"
        yield f"{old}.3", f"{new}.layers.{i}.projection"
    yield "pretrained.act_postprocess4.4", "neck.reassemble_stage.layers.3.resize"

    for i in range(4):
        yield f"scratch.layer{i + 1}_rn", f"neck.convs.{i}"
        old, new = f"scratch.refinenet{4 - i}", f"neck.fusion_stage.layers.{i}"  # from the coarsest level
        yield f"{old}.out_conv", f"{new}.projection"
        for unit in (1, 2):
            for conv in (1, 2):
                yield f"{old}.resConfUnit{unit}.conv{conv}", f"{new}.residual_layer{unit}.convolution{conv}"
    yield "scratch.output_conv", "head.head"


_MODULES = dict(_modules())
_INVERTED = inverted(_MODULES)


def names(key: str) -> list[tuple[str, str]]:
    """transformers' names of MiDaS' tensor `key`, and what each takes of it: q, k and v are packed in one."""
    if match := re.fullmatch(r"pretrained\.model\.blocks\.(\d+)\.attn\.qkv\.(\w+)", key):
        attention = f"dpt.encoder.layer.{match[1]}.attention.attention"
        return [(f"{attention}.{role}.{match[2]}", f"third {i}") for i, role in enumerate(_ATTENTION)]
    return [(rename(key, _MODULES) or key, "all")]


def key(name: str) -> tuple[str, str]:
    """MiDaS' key for the tensor `name`, and what part of that tensor it is."""
    if match := re.fullmatch(r"dpt\.encoder\.layer\.(\d+)\.attention\.attention\.(\w+)\.(\w+)", name):
        return (
            f"pretrained.model.blocks.{match[1]}.attn.qkv.{match[3]}",
            f"third {_ATTENTION.index(match[2])}",
        )
    key = rename(name, _INVERTED)
    assert key is not None, f"no MiDaS key for {name}"
    return key, "all"
