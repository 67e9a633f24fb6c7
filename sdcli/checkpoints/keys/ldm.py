"""LDM: the original names of CompVis' and Stability's networks <-> diffusers' names, one table for both directions.

For each network there are two functions side by side: `…_name` reads an LDM key, `…_key` gives it back. The keys here
have no prefix such as `model.diffusion_model.`; `single_file` takes it off and puts it on. A key that no table knows is
returned unchanged: it may be a diffusers name already, and if not, it is reported as surplus later.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable, Iterator

from sdcli.checkpoints.keys.rename import inverted, rename

# --- U-Net

LAYERS = 2
"""Resnets on each level of the encoder side of every published VAE and of most U-Nets; the decoder has one more."""
_LEVELS = 4

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "emb_layers.1": "time_emb_proj",
    "skip_connection": "conv_shortcut",
}


def _resnet(ldm: str, diffusers: str) -> Iterator[tuple[str, str]]:
    return ((f"{ldm}.{old}", f"{diffusers}.{new}") for old, new in _RESNET.items())


def _unet_modules(layers: int) -> Iterator[tuple[str, str]]:
    """(LDM, diffusers) names of the modules of a U-Net with so many resnets on each level of its encoder side.

    LDM numbers the blocks of each side in the order in which they run, across levels; diffusers numbers them by level.
    """
    yield "time_embed.0", "time_embedding.linear_1"
    yield "time_embed.2", "time_embedding.linear_2"
    yield "time_embed.cond_proj", "time_embedding.cond_proj"
    yield "label_emb.0.0", "add_embedding.linear_1"
    yield "label_emb.0.2", "add_embedding.linear_2"
    yield "label_emb.weight", "class_embedding.weight"
    yield "input_blocks.0.0", "conv_in"
    yield "out.0", "conv_norm_out"
    yield "out.2", "conv_out"
    yield from _resnet("middle_block.0", "mid_block.resnets.0")
    yield "middle_block.1", "mid_block.attentions.0"
    yield from _resnet("middle_block.2", "mid_block.resnets.1")
    for level in range(_LEVELS):
        first = 1 + level * (layers + 1)  # input block 0 is conv_in; each level ends with its downsampler
        for layer in range(layers):
            yield from _resnet(f"input_blocks.{first + layer}.0", f"down_blocks.{level}.resnets.{layer}")
            yield f"input_blocks.{first + layer}.1", f"down_blocks.{level}.attentions.{layer}"
        yield f"input_blocks.{first + layers}.0.op", f"down_blocks.{level}.downsamplers.0.conv"
        first = level * (layers + 1)
        for layer in range(layers + 1):
            yield from _resnet(f"output_blocks.{first + layer}.0", f"up_blocks.{level}.resnets.{layer}")
            yield f"output_blocks.{first + layer}.1", f"up_blocks.{level}.attentions.{layer}"
        for slot in (1, 2):  # the upsampler comes after the attention, if the level has one
            yield (
                f"output_blocks.{first + layers}.{slot}.conv",
                f"up_blocks.{level}.upsamplers.0.conv",
            )


@functools.cache
def _unet_table(layers: int) -> dict[str, str]:
    return dict(_unet_modules(layers))


@functools.cache
def _unet_table_inverted(layers: int) -> dict[str, str]:
    return inverted(_unet_table(layers))


def unet_layers(keys: Iterable[str]) -> int:
    """How many resnets each level of the encoder side has by a U-Net's LDM keys: its first downsampler follows them."""
    matches = (re.match(r"input_blocks\.(\d)\.0\.op\.", key) for key in keys)
    return max(min((int(match[1]) for match in matches if match), default=LAYERS + 1) - 1, 1)


def unet_name(key: str, layers: int = LAYERS) -> str:
    """The diffusers name of a tensor of a U-Net with so many resnets on each level of its encoder side."""
    return rename(key, _unet_table(layers)) or key


_DOWN_RESNET = re.compile(r"down_blocks\.0\.resnets\.(\d)\.")


def unet_key(name: str, names: Collection[str]) -> str:
    """The LDM key of the tensor `name` of a U-Net that has the tensors `names`."""
    return _known(find_unet_key(name, names), name)


def find_unet_key(name: str, names: Collection[str]) -> str | None:
    """The LDM key of the tensor `name` of a U-Net that has the tensors `names`; None if LDM has none for it."""
    layers = max((int(match[1]) for match in map(_DOWN_RESNET.match, names) if match), default=1) + 1
    key = rename(name, _unet_table_inverted(layers))
    match = re.match(r"up_blocks\.(\d)\.upsamplers\.", name)
    if key is not None and match:
        attentions = f"up_blocks.{match[1]}.attentions."
        if not any(other.startswith(attentions) for other in names):
            return key.replace(".2.conv.", ".1.conv.")
    return key


# --- VAE


@functools.cache
def _vae_modules(levels: int) -> dict[str, str]:
    """LDM -> diffusers names of the modules of a VAE with so many levels.

    LDM numbers the decoder's levels from the finest, which runs last; diffusers numbers them in the order they run.
    """
    modules = {}
    for side in ("encoder", "decoder"):
        modules[f"{side}.norm_out"] = f"{side}.conv_norm_out"
        modules[f"{side}.mid.block_1"] = f"{side}.mid_block.resnets.0"
        modules[f"{side}.mid.block_2"] = f"{side}.mid_block.resnets.1"
        attention = f"{side}.mid_block.attentions.0"
        modules[f"{side}.mid.attn_1.norm"] = f"{attention}.group_norm"
        modules |= {f"{side}.mid.attn_1.{letter}": f"{attention}.to_{letter}" for letter in "qkv"}
        modules[f"{side}.mid.attn_1.proj_out"] = f"{attention}.to_out.0"
    for level in range(levels):
        up = f"decoder.up_blocks.{levels - 1 - level}"
        for layer in range(LAYERS + 1):
            for old, new in (
                (f"encoder.down.{level}.block.{layer}", f"encoder.down_blocks.{level}.resnets.{layer}"),
                (f"decoder.up.{level}.block.{layer}", f"{up}.resnets.{layer}"),
            ):
                modules[old] = new
                modules[f"{old}.nin_shortcut"] = f"{new}.conv_shortcut"
        modules[f"encoder.down.{level}.downsample"] = f"encoder.down_blocks.{level}.downsamplers.0"
        modules[f"decoder.up.{level}.upsample"] = f"{up}.upsamplers.0"
    return modules


def vae_levels(keys: Iterable[str]) -> int:
    """How many levels a VAE has by its LDM keys; 0 if there are none among them."""
    levels = (re.match(r"(?:encoder\.down|decoder\.up)\.(\d)\.", key) for key in keys)
    return max((int(level[1]) + 1 for level in levels if level), default=0)


def vae_name(key: str, levels: int) -> str:
    """The diffusers name of a tensor of a VAE with so many levels."""
    return rename(key, _vae_modules(levels)) or key


def vae_key(name: str, names: Iterable[str]) -> str:
    """The LDM key of the tensor `name` of a VAE that has the tensors `names`."""
    levels = (re.match(r"decoder\.up_blocks\.(\d)", other) for other in names)
    count = max(int(level[1]) + 1 for level in levels if level)
    return rename(name, inverted(_vae_modules(count))) or name


# --- text encoders


def clip_name(key: str) -> str:
    """transformers' name of a tensor of CLIP ViT-L, which LDM files name as transformers does."""
    return key.removeprefix("text_model.")


def clip_key(name: str) -> str:
    """The key of a tensor of CLIP ViT-L in an LDM file."""
    return f"text_model.{name}"


_MAX_LAYERS = 32  # of ViT-bigG


def _open_clip_modules() -> Iterator[tuple[str, str]]:
    """(OpenCLIP's, transformers') names of the modules of a text encoder."""
    yield "token_embedding", "embeddings.token_embedding"
    yield "positional_embedding", "embeddings.position_embedding.weight"
    yield "ln_final", "final_layer_norm"
    for number in range(_MAX_LAYERS):
        old, new = f"transformer.resblocks.{number}", f"encoder.layers.{number}"
        yield f"{old}.ln_1", f"{new}.layer_norm1"
        yield f"{old}.ln_2", f"{new}.layer_norm2"
        yield f"{old}.mlp.c_fc", f"{new}.mlp.fc1"
        yield f"{old}.mlp.c_proj", f"{new}.mlp.fc2"
        yield f"{old}.attn.out_proj", f"{new}.self_attn.out_proj"


_OPEN_CLIP = dict(_open_clip_modules())
_OPEN_CLIP_INVERTED = inverted(_OPEN_CLIP)


def open_clip_names(key: str) -> list[tuple[str, str]]:
    """transformers' names of OpenCLIP's tensor `key`, and what each takes of it: q, k and v are packed in one."""
    if key == "text_projection":
        return [("text_projection.weight", "transpose")]
    if match := re.fullmatch(r"transformer\.resblocks\.(\d+)\.attn\.in_proj_(\w+)", key):
        attention = f"encoder.layers.{match[1]}.self_attn"
        return [(f"{attention}.{letter}_proj.{match[2]}", f"third {i}") for i, letter in enumerate("qkv")]
    return [(rename(key, _OPEN_CLIP) or key, "all")]


def open_clip_key(name: str) -> tuple[str, str]:
    """OpenCLIP's key for the tensor `name` of a text encoder, and what part of that tensor it is."""
    if name == "text_projection.weight":
        return "text_projection", "transpose"
    if match := re.fullmatch(r"encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(\w+)", name):
        return f"transformer.resblocks.{match[1]}.attn.in_proj_{match[3]}", f"third {'qkv'.index(match[2])}"
    return _known(rename(name, _OPEN_CLIP_INVERTED), name), "all"


def _known(key: str | None, name: str) -> str:
    assert key is not None, f"no LDM key for {name}"
    return key
