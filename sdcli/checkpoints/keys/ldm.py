"""Names: a tensor's name in a checkpoint -> the network it belongs to and its name there; pure text.

A single file has the original (LDM) names of CompVis and Stability, or diffusers' names behind the network's own; a
folder has diffusers' names, old or new. A packed tensor (OpenCLIP's q, k and v in one) has several targets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from sdcli.checkpoints.keys import midas

PARTS = ("text_encoder", "text_encoder_2", "unet", "vae", "depth_estimator")
OPTIONAL = ("depth_estimator",)
"""Parts that a model of a family that has them can do without; they are loaded when they are asked for."""


@dataclass(frozen=True)
class Target:
    """Where a tensor goes: network, name in it, and what to take: all, a third of its rows, or its transpose."""

    part: str
    name: str
    take: str = "all"  # all, third 0, third 1, third 2, transpose


@dataclass(frozen=True)
class Source:
    """Where a network's tensor comes from: its key in the file, and what to take of it, as in Target."""

    key: str
    take: str


IGNORABLE = re.compile(
    r"^(denoiser\.)?(betas|alphas_cumprod(_prev)?|sqrt_\w+|log_one_minus_\w+|posterior_\w+|logvar|sigmas)$"  # made here
    # from their formula
    r"|^model_ema\.|^low_scale_model\.|^first_stage_model\.loss\."  # copies and left-overs of training
    r"|^depth_model\.model\.pretrained\.model\.head\."  # the classes that its network was first trained on
    r"|^(cond_stage_model|conditioner|text_encoder)\w*\..*(embeddings\.position_ids|\.logit_scale|\.attn_mask)$"
    r"|^(v_pred|ztsnr|global_step)$"
)
"""Tensors that no network needs: they are listed as ignored, and their absence is no fault."""


def targets(key: str) -> list[Target] | None:
    """Where the tensor `key` of a single file goes; None for a name that is not known, [] for one that is ignored."""
    if IGNORABLE.search(key):
        return []
    for prefix, part, rename in _PREFIXES:
        if key.startswith(prefix):
            return list(_of(part, rename(key[len(prefix) :])))
    return None


def folder_name(part: str, key: str) -> str:
    """The name in its network of a tensor in a diffusers folder; older files have older names."""
    if part.startswith("text_encoder"):
        return key.removeprefix("text_model.")
    if part == "vae" and ".attentions." in key:
        old = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
        return re.sub(r"\.(query|key|value|proj_attn)\.", lambda m: f".{old[m[1]]}.", key)
    return key


def _of(part: str, renamed: Iterator[tuple[str, str]] | str) -> Iterator[Target]:
    if isinstance(renamed, str):
        yield Target(part, renamed)
    else:
        yield from (Target(part, name, take) for name, take in renamed)


_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "emb_layers.1": "time_emb_proj",
    "skip_connection": "conv_shortcut",
}
_UNET = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "label_emb.weight": "class_embedding.weight",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
LAYERS = 2  # resnets a level, in every published U-Net


def _unet(key: str) -> str:
    for old, new in _UNET.items():
        if key == old or key.startswith(old + "."):
            return new + key[len(old) :]
    if m := re.match(r"middle_block\.(\d)\.(.*)", key):
        index, rest = int(m[1]), m[2]
        return (
            f"mid_block.attentions.0.{rest}"
            if index == 1
            else f"mid_block.resnets.{index // 2}.{_resnet(rest)}"
        )
    if m := re.match(r"(input|output)_blocks\.(\d+)\.(\d)\.(.*)", key):
        side, number, slot, rest = m[1], int(m[2]), int(m[3]), m[4]
        level, place = divmod(number - (side == "input"), LAYERS + 1)
        block = f"{'down' if side == 'input' else 'up'}_blocks.{level}"
        if rest.startswith("op."):
            return f"{block}.downsamplers.0.conv{rest[2:]}"
        if rest.startswith("conv."):
            return f"{block}.upsamplers.0.{rest}"
        return (
            f"{block}.resnets.{place}.{_resnet(rest)}" if slot == 0 else f"{block}.attentions.{place}.{rest}"
        )
    return key


def _resnet(rest: str) -> str:
    for old, new in _RESNET.items():
        if rest.startswith(old + "."):
            return new + rest[len(old) :]
    return rest


_VAE = [
    (r"^(encoder|decoder)\.norm_out\.", r"\1.conv_norm_out."),
    (r"^(encoder|decoder)\.mid\.attn_1\.norm\.", r"\1.mid_block.attentions.0.group_norm."),
    (r"^(encoder|decoder)\.mid\.attn_1\.([qkv])\.", r"\1.mid_block.attentions.0.to_\2."),
    (r"^(encoder|decoder)\.mid\.attn_1\.proj_out\.", r"\1.mid_block.attentions.0.to_out.0."),
    (r"^(encoder|decoder)\.mid\.block_1\.", r"\1.mid_block.resnets.0."),
    (r"^(encoder|decoder)\.mid\.block_2\.", r"\1.mid_block.resnets.1."),
    (r"^encoder\.down\.(\d)\.block\.(\d)\.", r"encoder.down_blocks.\1.resnets.\2."),
    (r"^encoder\.down\.(\d)\.downsample\.", r"encoder.down_blocks.\1.downsamplers.0."),
    (r"^decoder\.up\.(\d)\.block\.(\d)\.", r"decoder.up_blocks.-\1.resnets.\2."),
    (r"^decoder\.up\.(\d)\.upsample\.", r"decoder.up_blocks.-\1.upsamplers.0."),
    (r"\.nin_shortcut\.", r".conv_shortcut."),
]


def _vae(key: str) -> str:
    """LDM counts the decoder's levels from the far end: level -i here is the i-th from the last, see `settle`."""
    for old, new in _VAE:
        key = re.sub(old, new, key)
    return key


def settle(target: Target, levels: int) -> Target:
    """The target with the decoder's level listing from the front, in a VAE of so many levels."""
    name = re.sub(r"up_blocks\.-(\d)", lambda m: f"up_blocks.{levels - 1 - int(m[1])}", target.name)
    return Target(target.part, name, target.take)


def _clip(key: str) -> str:
    return key.removeprefix("text_model.")


_OPEN_CLIP = {
    "token_embedding.": "embeddings.token_embedding.",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.": "final_layer_norm.",
}
_OPEN_CLIP_LAYER = {
    "ln_1.": "layer_norm1.",
    "ln_2.": "layer_norm2.",
    "mlp.c_fc.": "mlp.fc1.",
    "mlp.c_proj.": "mlp.fc2.",
    "attn.out_proj.": "self_attn.out_proj.",
}


def _open_clip(key: str) -> Iterator[tuple[str, str]]:
    if key == "text_projection":
        yield "text_projection.weight", "transpose"
        return
    for old, new in _OPEN_CLIP.items():
        if key.startswith(old):
            yield new + key[len(old) :], "all"
            return
    if m := re.match(r"transformer\.resblocks\.(\d+)\.(.*)", key):
        layer, rest = f"encoder.layers.{m[1]}.", m[2]
        if rest.startswith("attn.in_proj_"):
            for third, letter in enumerate("qkv"):
                yield f"{layer}self_attn.{letter}_proj.{rest.removeprefix('attn.in_proj_')}", f"third {third}"
            return
        for old, new in _OPEN_CLIP_LAYER.items():
            if rest.startswith(old):
                yield layer + new + rest[len(old) :], "all"
                return
    yield key, "all"


_PREFIXES: list[tuple[str, str, Callable[[str], str | Iterator[tuple[str, str]]]]] = [
    ("model.diffusion_model.", "unet", _unet),
    ("first_stage_model.", "vae", _vae),
    ("cond_stage_model.transformer.", "text_encoder", _clip),
    ("cond_stage_model.model.", "text_encoder", _open_clip),
    ("conditioner.embedders.0.transformer.", "text_encoder", _clip),
    ("conditioner.embedders.0.model.", "text_encoder_2", _open_clip),  # the refiner has bigG alone
    ("conditioner.embedders.1.model.", "text_encoder_2", _open_clip),
    ("depth_model.model.", "depth_estimator", midas.targets),
    *((f"{part}.", part, partial(folder_name, part)) for part in PARTS),
]
