"""Control fit: the settings of a control network for a model, and whether its file holds that network, whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sdcli.checkpoints import control_file, network_config, tensor_shapes, unet_layout
from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.checkpoints.completeness import check_tensors
from sdcli.checkpoints.component import Component, listing
from sdcli.checkpoints.control_file import KINDS, UNION_TYPES, ControlFile, models_of, type_number
from sdcli.checkpoints.header import FLOATS
from sdcli.checkpoints.tensor_shapes import Shapes
from sdcli.errors import ModelError
from sdcli.request.controls import ControlUse

Settings = dict[str, Any]

LATENT_CHANNELS = 4
"""What a ControlNet sees of x; the channels that other U-Nets are given besides come behind them."""

HINT_CHANNELS = (16, 32, 96, 256)
"""Widths of the hint's encoder in published nets."""

_OWN_KEYS = frozenset(
    [
        "conditioning_channels",
        "conditioning_embedding_out_channels",
        "controlnet_conditioning_channel_order",
        "global_pool_conditions",
        "num_control_type",
        "num_trans_channel",
        "num_trans_head",
        "num_trans_layer",
        "num_proj_channel",
    ]
)
"""The keys of a ControlNet's config.json that a U-Net's does not have."""
_ADAPTER_KEYS = frozenset(["in_channels", "channels", "num_res_blocks", "downscale_factor", "adapter_type"])


def settings_for(file: ControlFile, name: str, unet: Mapping[str, Any]) -> Settings:
    """The complete settings of the file's network for a model of this name, whose U-Net has the settings `unet`.

    Raises ModelError if the file is for another family, or if its network cannot be built.
    """
    _check_family(file, name, unet)
    try:
        if file.is_adapter:
            return _adapter_settings(file, unet)
        return _controlnet_settings(file, unet)
    except (TypeError, ValueError, LookupError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{file.path}: cannot be used here: {reason}; get another copy of it") from None


def check_fit(file: ControlFile, name: str, unet: Mapping[str, Any]) -> Settings:
    """`settings_for`; raises ModelError too for tensors that are missing, too many or of another shape."""
    settings = settings_for(file, name, unet)
    needed = tensor_shapes.of_control(file.kind, settings, str(file.path))
    if file.kind == "control-lora":
        _check_lora(file, needed, unet)
    else:
        check_tensors(file.component, needed)
    return settings


def check_controls(found: Checkpoint, uses: Sequence[ControlUse]) -> None:
    """Raise ModelError for a control that a model cannot use; no networks need to be loaded."""
    if not uses:
        return
    unet = network_config.settings("unet", found.components["unet"].config)
    for use in uses:
        file = control_file.read(Path(use.path))
        check_fit(file, found.name, unet)
        check_settings(file, use)
        if use.annotate.startswith("depth") and "depth_estimator" not in found.components:
            raise ModelError(
                f"--control {use.path}: annotate=depth needs a depth network, and {found.name} has none; make the map "
                "with sd annotate depth and a Stable Diffusion 2 depth model"
            )


def check_settings(file: ControlFile, use: ControlUse) -> None:
    """Raise ModelError if a file's network cannot be used with these settings, or needs some that are not given."""
    kind = KINDS[file.kind]
    if use.pool and file.is_adapter:
        raise ModelError(f"{file.path}: is {kind}, whose features are not averaged; leave pool=yes out")
    if file.kind != "union":
        if use.type:
            raise ModelError(f"{file.path}: is {kind}, and takes no type=; leave it out")
        return
    known = UNION_TYPES[: file.shape("task_embedding")[0]]
    number = type_number(use.type)
    if number is None or number >= len(known):
        said = f"does not know type={use.type}" if use.type else "is told what its hint is"
        raise ModelError(f"{file.path}: is {kind}, and {said}; give type= one of {', '.join(known)}")


def _check_family(file: ControlFile, name: str, unet: Mapping[str, Any]) -> None:
    if unet["num_class_embeds"] is not None or unet["in_channels"] == 7:
        raise ModelError(f"{file.path}: {name} is an x4 upscaler, for which there are no control networks")
    width = max(network_config.per_level(unet["cross_attention_dim"], len(unet["block_out_channels"])))
    is_xl = unet["addition_embed_type"] == "text_time"
    if file.is_adapter:
        fits = (file.shrink == 16) == is_xl
        model = models_of(width) if width in (768, 1024, 2048) else "SDXL" if is_xl else "SD 1 and SD 2"
    else:
        has_sizes = bool(file.shape("add_embedding.linear_1.weight")) or file.kind == "control-lora"
        fits = file.text_width in (0, width) and (has_sizes or not is_xl)
        model = models_of(width)
    if not fits:
        kind = KINDS[file.kind]
        raise ModelError(
            f"{file.path} is {kind} for {file.trained_for}, and {name} is a model of {model}; use one for {model}"
        )


def _controlnet_settings(file: ControlFile, unet: Mapping[str, Any]) -> Settings:
    own = {key: value for key, value in file.config.items() if key not in _OWN_KEYS}
    complete = network_config.settings("unet", own)
    usual = {**unet, **{key: complete[key] for key in own if key in complete}}
    usual |= {"in_channels": LATENT_CHANNELS, "time_cond_proj_dim": None, "num_class_embeds": None}
    order = file.config.get("controlnet_conditioning_channel_order", "rgb")
    if order != "rgb":
        raise ValueError(f"controlnet_conditioning_channel_order {order!r} is not known here")
    names = [*file.component.sources, *file.factors]
    if file.kind == "control-lora":
        settings = dict(usual)  # what the file leaves out is the U-Net's own
    else:
        settings = network_config.settings("unet", unet_layout.config_of(usual, names, 0))
    return settings | {
        "conditioning_channels": 3,
        "hint_channels": _hint_channels(file),
        "control_types": file.shape("task_embedding")[0] if file.kind == "union" else 0,
        "pools": bool(file.config.get("global_pool_conditions")),
    }


def _hint_channels(file: ControlFile) -> list[int]:
    """The widths of the hint's encoder by its tensors; where one is missing, that of all published nets."""
    layers = ("conv_in", "blocks.1", "blocks.3", "blocks.5")
    shapes = (file.shape(f"controlnet_cond_embedding.{layer}.weight") for layer in layers)
    return [shape[0] if shape else usual for shape, usual in zip(shapes, HINT_CHANNELS, strict=True)]


def _adapter_settings(file: ControlFile, unet: Mapping[str, Any]) -> Settings:
    for key in file.config:
        if key not in _ADAPTER_KEYS and not key.startswith("_"):
            raise ValueError(f"the setting {key!r} is not known here")
    light = file.kind == "t2i-light"
    widths = list(unet["block_out_channels"])
    channels = [*widths, widths[-1]] if len(widths) == 3 else widths
    if light and file.shape("body.4.in_conv.weight"):
        channels = [
            *channels,
            channels[-1],
        ]  # as diffusers makes them of four widths; the U-Net takes four features
    shrink = file.shrink
    inputs = (*file.shape("body.0.in_conv.weight" if light else "conv_in.weight"), 0, 0)[1]
    return {
        "channels": channels,
        "hint_channels": 1 if inputs == shrink**2 else 3,
        "shrink": shrink,
        "halves": [2] if shrink == 16 else [1, 2, 3, 4],
        "light": light,
        "blocks": 4 if light else 2,
    }


def _check_lora(file: ControlFile, needed: Shapes, unet: Mapping[str, Any]) -> None:
    """Check a Control-LoRA: what is not in the file is the U-Net's own, and what is fits it."""
    own = tensor_shapes.of_network("unet", unet, str(file.path))
    stored = {**file.component.sources, **file.factors}
    missing = [name for name in needed if name not in stored and name not in own]
    surplus = [name for name in stored if name not in needed]
    for names, fault in ((missing, "missing"), (surplus, "too many")):
        if names:
            raise ModelError(
                f"{file.path}: {listing(names)} {fault}; it is a Control-LoRA for another U-Net, or damaged"
            )
    whole = {name: needed[name] for name in file.component.sources}
    check_tensors(Component({}, file.component.header, file.component.sources), whole)
    _check_factors(file, needed)


def _check_factors(file: ControlFile, needed: Shapes) -> None:
    head = file.component.header
    assert head is not None
    wrong = []
    for name, keys in file.factors.items():
        up, down = (head.tensors[key] for key in keys)
        is_float = up.dtype in FLOATS and down.dtype in FLOATS
        fits = len(up.shape) > 1 and len(down.shape) > 1 and up.shape[1] == down.shape[0]
        shape = [up.shape[0], *down.shape[1:]] if fits else []
        if not is_float or (shape != needed[name] and [*shape, 1, 1] != needed[name]):
            wrong.append(name)
    if wrong:
        raise ModelError(
            f"{file.path}: {listing(wrong)} of another shape than the U-Net's; it is for another one"
        )
