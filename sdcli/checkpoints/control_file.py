"""Control file: a ControlNet, a Control-LoRA or a T2I-Adapter, by the names and shapes of its tensors alone."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sdcli.checkpoints import header, shards
from sdcli.checkpoints.component import Component, add_source, listing, read_config
from sdcli.checkpoints.family import Config
from sdcli.checkpoints.header import Header
from sdcli.checkpoints.keys import control, ldm, single_file
from sdcli.checkpoints.keys.types import Source
from sdcli.errors import ModelError

KINDS = {
    "controlnet": "a ControlNet",
    "difference": "a ControlNet stored as the difference from a U-Net",
    "union": "a ControlNet for several kinds of hints",
    "control-lora": "a Control-LoRA",
    "t2i": "a T2I-Adapter",
    "t2i-light": "a light T2I-Adapter",
}
"""Kind of control file -> what it is called."""

UNION_TYPES = ("openpose", "depth", "scribble", "canny", "normal", "segment", "tile", "repaint")
"""The kinds of hints that a union net is told, by their numbers."""
_TYPES_ELSEWHERE = {
    **dict.fromkeys(("pose", "dwpose"), "openpose"),
    **dict.fromkeys(("hed", "pidi", "softedge"), "scribble"),
    **dict.fromkeys(("lineart", "anime_lineart", "mlsd"), "canny"),
    "seg": "segment",
    "inpaint": "repaint",
}
"""Other words for them: nets take hints that look alike for one kind."""

_MODELS = {768: "SD 1", 1024: "SD 2", 2048: "SDXL"}
"""Width of the text that a network reads -> the models that have it."""
_MARKERS = ("difference", "lora_controlnet")
_WHOLE_MODEL = (single_file.UNET, single_file.VAE, "cond_stage_model.")
"""Prefixes of what the first releases had beside the ControlNet: the model that it was trained with."""


@dataclass(frozen=True)
class ControlFile:
    """What a control file is: its kind, and where each of its network's tensors is.

    `factors` are the tensors of a Control-LoRA that are the U-Net's own plus a product: name -> the keys of (up, down).
    `config` is a diffusers folder's config.json.
    """

    path: Path
    kind: str  # one of KINDS
    component: Component
    factors: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    config: Config = field(default_factory=dict)
    ignored: tuple[str, ...] = ()  # keys of tensors of the model that a first release had along

    @property
    def name(self) -> str:
        """The file's name without its ending, as other tools show it."""
        return self.path.stem if self.path.is_file() else self.path.name

    @property
    def paths(self) -> list[Path]:
        """The files that its tensors are in."""
        return [] if self.component.header is None else self.component.header.paths

    @property
    def everything(self) -> Component:
        """All that is stored; the two factors of a product as `NAME.up` and `NAME.down`."""
        halves = {
            f"{name}.{half}": Source(key)
            for name, keys in self.factors.items()
            for half, key in zip(("up", "down"), keys, strict=True)
        }
        return Component(self.config, self.component.header, {**self.component.sources, **halves})

    @property
    def is_adapter(self) -> bool:
        """True for a T2I-Adapter, which adds features and reads no text."""
        return self.kind.startswith("t2i")

    @property
    def needs_unet(self) -> bool:
        """True if its weights are the U-Net's own and what the file adds to them."""
        return self.kind in ("difference", "control-lora")

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor by its name in the network; empty if the file has none."""
        if name in self.component.sources:
            return tuple(self.component.shape(name))
        if name in self.factors and self.component.header is not None:
            up, down = (self.component.header.tensors[key].shape for key in self.factors[name])
            return (*up[:1], *down[1:])
        return ()

    @functools.cached_property
    def text_width(self) -> int:
        """The width of the text that it reads; 0 if it reads none."""
        names = (*self.component.sources, *self.factors)
        widths = (self.shape(name) for name in names if name.endswith("attn2.to_k.weight"))
        return next((shape[1] for shape in widths if len(shape) > 1), 0)

    @property
    def trained_for(self) -> str:
        """The models that it is for, such as `SD 1`."""
        if self.is_adapter:
            return "SDXL" if self.shrink == 16 else "SD 1 and SD 2"
        if not self.text_width and self.shape("add_embedding.linear_1.weight"):
            return models_of(2048)
        return models_of(self.text_width)

    @property
    def shrink(self) -> int:
        """The side of the squares of pixels that a T2I-Adapter takes for one input: 16 for SDXL, else 8."""
        inputs = self.shape("conv_in.weight" if self.kind == "t2i" else "body.0.in_conv.weight")
        return 16 if inputs[1:2] in ((256,), (768,)) else 8


def type_number(word: str) -> int | None:
    """The number of the kind of hint that a word stands for; None if it stands for none."""
    known = _TYPES_ELSEWHERE.get(word, word)
    return UNION_TYPES.index(known) if known in UNION_TYPES else None


def models_of(width: int) -> str:
    """The models whose U-Nets read text of this width: `SD 1`, or `text of width 16`."""
    return _MODELS.get(width, f"text of width {width}")


def read(path: Path) -> ControlFile:
    """What a control file or a diffusers folder of one is, by its header; raises ModelError if it is none."""
    if not os.path.exists(path):
        raise ModelError(f"--control {path}: no such file or folder; check the path")
    config = read_config(path / "config.json") if path.is_dir() else {}
    head = shards.read(path, "controlnet", header.read) if path.is_dir() else header.read(path)
    if any(key.startswith("lllite_") for key in head.tensors):
        raise ModelError(
            f"{path}: a ControlNet-LLLite, which is not supported; use a ControlNet or a Control-LoRA for SDXL"
        )
    kind = _kind(head)
    if not kind:
        keys = listing(list(head.tensors)) if head.tensors else "no tensors"
        raise ModelError(f"{path}: has {keys}, and is no ControlNet, Control-LoRA or T2I-Adapter")
    return _described(path, kind, head, config)


def is_control(path: Path) -> bool:
    """True for a control file, or a diffusers folder of one."""
    try:
        return bool(
            _kind(shards.read(path, "controlnet", header.read) if path.is_dir() else header.read(path))
        )
    except ModelError:
        return False


def facts(found: ControlFile) -> dict[str, object]:
    """What `sd info` shows of a control file."""
    facts: dict[str, object] = {"kind": f"{KINDS[found.kind]} for {found.trained_for}"}
    if found.kind == "union":
        count = found.shape("task_embedding")[0]
        facts["types"] = ", ".join(UNION_TYPES[:count])
    if found.ignored:
        facts["ignored"] = list(found.ignored)
    return facts


def _kind(head: Header) -> str:
    """The kind of control file; empty if it is none."""
    keys = head.tensors.keys()
    if "lora_controlnet" in keys:
        return "control-lora"
    if {"input_hint_block.0.weight", f"{control.PREFIX}input_hint_block.0.weight"} & keys:
        return "difference" if "difference" in keys else "controlnet"
    if "controlnet_cond_embedding.conv_in.weight" in keys:
        return "union" if "task_embedding" in keys else "controlnet"
    names = set(control.t2i_names(keys).values())
    if "body.0.resnets.0.block1.weight" in names:
        return "t2i" if "conv_in.weight" in names else "t2i-light"
    return ""


def _described(path: Path, kind: str, head: Header, config: Config) -> ControlFile:
    keys = [key for key in head.tensors if key not in _MARKERS]
    ignored: tuple[str, ...] = ()
    if any(key.startswith(control.PREFIX) for key in keys):
        ignored = tuple(key for key in keys if _is_of_whole_model(key))
        keys = [key for key in keys if not _is_of_whole_model(key)]
    name_of = _names(kind, keys)
    sources: dict[str, Source] = {}
    pairs: dict[str, dict[str, str]] = {}
    for key in keys:
        module, _, last = key.rpartition(".")
        if kind == "control-lora" and last in ("up", "down"):
            pairs.setdefault(name_of(f"{module}.weight"), {})[last] = key
        else:
            add_source(sources, name_of(key), Source(key), head)
    halves = [name for name, pair in pairs.items() if len(pair) < 2]
    if halves:
        raise ModelError(
            f"{path}: {listing(halves)} with an up and no down, or a down and no up; fetch it again"
        )
    factors = {name: (pair["up"], pair["down"]) for name, pair in pairs.items()}
    return ControlFile(path, kind, Component(config, head, sources), factors, config, ignored)


def _is_of_whole_model(key: str) -> bool:
    return key.startswith(_WHOLE_MODEL) or bool(single_file.IGNORABLE.match(key))


def _names(kind: str, keys: list[str]) -> Callable[[str], str]:
    """key in the file -> name in the network."""
    if kind.startswith("t2i"):
        return control.t2i_names(keys).__getitem__
    layers = ldm.unet_layers(key.removeprefix(control.PREFIX) for key in keys)
    return lambda key: control.controlnet_name(key.removeprefix(control.PREFIX), layers)
