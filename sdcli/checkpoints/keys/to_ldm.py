"""LDM: the way back from a network's names to those of a single file, for writing one; `names` reads them."""

from __future__ import annotations

import re
from collections.abc import Collection

from sdcli.checkpoints.keys import midas
from sdcli.checkpoints.keys.ldm import _OPEN_CLIP, _OPEN_CLIP_LAYER, _RESNET, _UNET, LAYERS, Source

_UNRESNET = {new: old for old, new in _RESNET.items()}
_UNUNET = {new: old for old, new in _UNET.items()}
_UNCLIP = {new: old for old, new in {**_OPEN_CLIP, **_OPEN_CLIP_LAYER}.items()}


def keys(part: str, own: Collection[str], family: str, open_clip: bool) -> dict[str, Source]:
    """A network's names -> (key in the file, which part of it): the inverse of `names.targets` for that family."""
    xl = family.startswith("sdxl")
    if part == "unet":
        return {name: Source(f"model.diffusion_model.{_unet(name, own)}", "all") for name in own}
    if part == "vae":
        levels = 1 + max(
            int(m[1]) for m in (re.match(r"decoder\.up_blocks\.(\d)", name) for name in own) if m
        )
        return {name: Source(f"first_stage_model.{_vae(name, levels)}", "all") for name in own}
    if part == "depth_estimator":
        back = {name: midas.source(name) for name in own}
        return {name: Source(f"depth_model.model.{key}", take) for name, (key, take) in back.items()}
    if not open_clip:
        before = "conditioner.embedders.0.transformer." if xl else "cond_stage_model.transformer."
        return {name: Source(f"{before}text_model.{name}", "all") for name in own}
    before = "cond_stage_model.model."
    if xl:
        before = f"conditioner.embedders.{0 if family == 'sdxl_refiner' else 1}.model."
    found = {}
    for name in own:
        key, take = _open_clip(name)
        found[name] = Source(before + key, take)
    return found


def _unet(name: str, own: Collection[str]) -> str:
    for new, old in _UNUNET.items():
        if name == new or name.startswith(new + "."):
            return old + name[len(new) :]
    if m := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", name):
        if m[1] == "attentions":
            return f"middle_block.1.{m[3]}"
        return f"middle_block.{2 * int(m[2])}.{_resnet(m[3])}"
    m = re.match(r"(down|up)_blocks\.(\d)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.(.*)", name)
    assert m is not None, name
    level, kind, place, rest = int(m[2]), m[3], int(m[4]), m[5]
    if kind == "downsamplers":
        return f"input_blocks.{(level + 1) * (LAYERS + 1)}.0.op{rest.removeprefix('conv')}"
    if kind == "upsamplers":
        slot = 2 if any(each.startswith(f"up_blocks.{level}.attentions.") for each in own) else 1
        return f"output_blocks.{level * (LAYERS + 1) + LAYERS}.{slot}.{rest}"
    side = f"input_blocks.{1 + level * (LAYERS + 1) + place}" if m[1] == "down" else ""
    side = side or f"output_blocks.{level * (LAYERS + 1) + place}"
    return f"{side}.0.{_resnet(rest)}" if kind == "resnets" else f"{side}.1.{rest}"


def _resnet(rest: str) -> str:
    stem, _, leaf = rest.rpartition(".")
    return f"{_UNRESNET[stem]}.{leaf}"


_UNVAE = [
    (r"\.conv_shortcut\.", r".nin_shortcut."),
    (r"\.conv_norm_out\.", r".norm_out."),
    (r"\.mid_block\.resnets\.0\.", r".mid.block_1."),
    (r"\.mid_block\.resnets\.1\.", r".mid.block_2."),
    (r"\.mid_block\.attentions\.0\.group_norm\.", r".mid.attn_1.norm."),
    (r"\.mid_block\.attentions\.0\.to_([qkv])\.", r".mid.attn_1.\1."),
    (r"\.mid_block\.attentions\.0\.to_out\.0\.", r".mid.attn_1.proj_out."),
    (r"^encoder\.down_blocks\.(\d)\.resnets\.", r"encoder.down.\1.block."),
    (r"^encoder\.down_blocks\.(\d)\.downsamplers\.0\.", r"encoder.down.\1.downsample."),
    (r"^decoder\.up_blocks\.(\d)\.resnets\.", r"decoder.up.\1.block."),
    (r"^decoder\.up_blocks\.(\d)\.upsamplers\.0\.", r"decoder.up.\1.upsample."),
]


def _vae(name: str, levels: int) -> str:
    for new, old in _UNVAE:
        name = re.sub(new, old, name)
    return re.sub(r"^decoder\.up\.(\d)", lambda m: f"decoder.up.{levels - 1 - int(m[1])}", name)


def _open_clip(name: str) -> tuple[str, str]:
    if name == "text_projection.weight":
        return "text_projection", "transpose"
    if m := re.match(r"encoder\.layers\.(\d+)\.(.*)", name):
        layer, rest = f"transformer.resblocks.{m[1]}.", m[2]
        if packed := re.match(r"self_attn\.([qkv])_proj\.(\w+)", rest):
            return f"{layer}attn.in_proj_{packed[2]}", f"third {'qkv'.index(packed[1])}"
        name, before = rest, layer
    else:
        before = ""
    for new, old in _UNCLIP.items():
        if name.startswith(new):
            return before + old + name[len(new) :], "all"
    raise AssertionError(f"no rule for {name}")
