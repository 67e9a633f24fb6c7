"""Image encoder file: the vision half of a CLIP, which turns a picture into vectors for an IP-Adapter.

Read are transformers' names (CLIPVisionModelWithProjection) and OpenCLIP's, which ComfyUI reads too, alone or in a file
of a whole CLIP. Names and shapes are read from the header; no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdcli.checkpoints import header
from sdcli.checkpoints.component import Component, listing, read_config
from sdcli.checkpoints.header import FLOATS, Header
from sdcli.checkpoints.keys.types import Source
from sdcli.errors import ModelError

Shapes = Mapping[str, tuple[int, ...]]

KNOWN = {(1280, 1024): "ViT-H/14", (1664, 1280): "ViT-bigG/14", (1024, 768): "ViT-L/14"}
"""(width of its states, width of its projection) -> the published encoder."""

_BY_WIDTH = {1280: (16, "gelu"), 1664: (16, "gelu"), 1024: (16, "quick_gelu")}
"""Width -> (attention heads, activation) of the published encoders, which no shape tells."""

_OPEN_CLIP = {
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "ln_pre.": "pre_layrnorm.",
    "ln_post.": "post_layernorm.",
    "proj": "visual_projection.weight",
}
"""OpenCLIP's names behind `visual.` -> transformers' behind `vision_model.`."""
_OPEN_CLIP_LAYER = {
    "ln_1.": "layer_norm1.",
    "ln_2.": "layer_norm2.",
    "attn.out_proj.": "self_attn.out_proj.",
    "mlp.c_fc.": "mlp.fc1.",
    "mlp.c_proj.": "mlp.fc2.",
}
_LAYER = re.compile(r"transformer\.resblocks\.(\d{1,3})\.(.+)", re.ASCII)
_HARMLESS = re.compile(
    r"(.*\.)?position_ids|logit_scale|logit_bias|text_projection(\.weight)?|text_model\..*|transformer\..*"
    r"|token_embedding\.weight|positional_embedding|ln_final\..*|attn_mask"
)
"""The text half of a whole CLIP, and buffers."""


@dataclass(frozen=True)
class ImageEncoderFile:
    """What the header of an image encoder says, in the words of a CLIPVisionConfig."""

    path: Path
    settings: Mapping[str, Any]
    component: Component

    @property
    def hidden(self) -> int:
        """Values of each of its states."""
        return int(self.settings["hidden_size"])

    @property
    def projection(self) -> int:
        """Values of the vector that stands for the whole picture; 0 if it makes none."""
        return int(self.settings["projection_dim"])

    @property
    def kind(self) -> str:
        """`ViT-H/14`, or its widths."""
        return KNOWN.get(
            (self.hidden, self.projection), f"of widths {self.hidden} and {self.projection}, unknown here"
        )


def read_header(path: Path) -> ImageEncoderFile:
    """What an image encoder is, by its header and the config.json beside it, if it has one.

    `path` is the file, or the folder that save_pretrained makes. Raises ModelError if it is none, or lacks a tensor.
    """
    path = path / "model.safetensors" if path.is_dir() else path
    if not path.exists():
        raise ModelError(f"{path}: there is no such image encoder; check the path")
    head = header.read(path)
    sources = _sources(head)
    if not sources:
        count = listing(list(head.tensors)) if head.tensors else "no tensors"
        raise ModelError(f"{path}: has {count}, and is no image encoder of CLIP")
    component = Component({}, head, sources)
    settings = _settings(component, path)
    _check_tensors(component, _shapes(settings))
    return ImageEncoderFile(path, settings, component)


def is_image_encoder(path: Path) -> bool:
    """True for a file that can be nothing but an image encoder, whole or damaged."""
    try:
        return bool(_sources(header.read(path)))
    except ModelError:
        return False


def _sources(head: Header) -> dict[str, Source]:
    """The tensors by their names in our network; none if the file has other networks too, or no image encoder."""
    sources: dict[str, Source] = {}
    for key in head.tensors:
        if key.startswith("vision_model."):
            name = key.removeprefix("vision_model.")
            found = {} if name.endswith("position_ids") else {name: Source(key)}
        elif key == "visual_projection.weight":
            found = {key: Source(key)}
        elif key.startswith("visual."):
            found = _of_open_clip(key)
        elif _HARMLESS.fullmatch(key):
            found = {}
        else:
            return {}
        sources |= found
    return sources if "embeddings.patch_embedding.weight" in sources else {}


def _of_open_clip(key: str) -> dict[str, Source]:
    rest = key.removeprefix("visual.")
    layer = _LAYER.fullmatch(rest)
    if layer is None:
        start = next(
            (each for each in _OPEN_CLIP if rest == each or (each[-1] == "." and rest.startswith(each))), ""
        )
        name = _OPEN_CLIP.get(start, rest) + rest.removeprefix(start) if start else key
        return {name: Source(key, "transpose" if rest == "proj" else "all")}
    prefix, rest = f"encoder.layers.{layer[1]}", layer[2]
    for kind in ("weight", "bias"):
        if rest == f"attn.in_proj_{kind}":
            return {
                f"{prefix}.self_attn.{each}_proj.{kind}": Source(key, f"third {i}")
                for i, each in enumerate("qkv")
            }
    start = next((each for each in _OPEN_CLIP_LAYER if rest.startswith(each)), "")
    return {f"{prefix}.{_OPEN_CLIP_LAYER.get(start, start)}{rest.removeprefix(start)}": Source(key)}


# --- config


def _settings(component: Component, path: Path) -> dict[str, Any]:
    """The widths by the shapes; heads and activation by the config.json beside the file, or else by the width."""

    def size(name: str, axis: int) -> int:
        shape = component.shape(name) if name in component.sources else []
        return shape[axis] if len(shape) > axis else 0

    patch = "embeddings.patch_embedding.weight"
    hidden, patch_size = size(patch, 0), size(patch, 3)
    side = round(max(0, size("embeddings.position_embedding.weight", 0) - 1) ** 0.5) * patch_size
    layers = {name.split(".")[2] for name in component.sources if name.startswith("encoder.layers.")}
    config = _config_beside(path)
    heads, act = _BY_WIDTH.get(hidden, (0, ""))
    heads, act = config.get("num_attention_heads", heads), config.get("hidden_act", act)
    if type(heads) is not int or heads < 1 or hidden % heads or act not in ("gelu", "quick_gelu"):
        raise ModelError(
            f"{path}: an image encoder of width {hidden}, of which only the config.json tells heads and activation; "
            "put its config.json beside it"
        )
    return {
        "hidden_size": hidden,
        "intermediate_size": size("encoder.layers.0.mlp.fc1.weight", 0),
        "num_hidden_layers": len(layers),
        "num_attention_heads": heads,
        "hidden_act": act,
        "layer_norm_eps": float(config.get("layer_norm_eps", 1e-5)),
        "patch_size": patch_size,
        "image_size": side,
        "projection_dim": size("visual_projection.weight", 0),
    }


def _config_beside(path: Path) -> Mapping[str, Any]:
    """The vision config in the same folder; empty if there is none, or one of something else."""
    try:
        config = read_config(path.parent / "config.json")
    except ModelError:
        return {}
    vision = config.get("vision_config") if config.get("model_type") == "clip" else config
    is_vision = isinstance(vision, dict) and (
        vision is not config or vision.get("model_type") == "clip_vision_model"
    )
    return vision if is_vision and isinstance(vision, dict) else {}


# --- tensors


def _shapes(settings: Mapping[str, Any]) -> Shapes:
    """The tensors of an image encoder with these settings, in transformers' names."""
    width, inner = settings["hidden_size"], settings["intermediate_size"]
    patch, positions = (
        settings["patch_size"],
        (settings["image_size"] // max(1, settings["patch_size"])) ** 2 + 1,
    )
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.class_embedding": (width,),
        "embeddings.patch_embedding.weight": (width, 3, patch, patch),
        "embeddings.position_embedding.weight": (positions, width),
    }

    def layer(name: str, outputs: int, inputs: int = 0) -> None:
        shapes[f"{name}.weight"] = (outputs, inputs) if inputs else (outputs,)
        shapes[f"{name}.bias"] = (outputs,)

    layer("pre_layrnorm", width)
    for i in range(settings["num_hidden_layers"]):
        name = f"encoder.layers.{i}"
        for each in ("k_proj", "v_proj", "q_proj", "out_proj"):
            layer(f"{name}.self_attn.{each}", width, width)
        layer(f"{name}.layer_norm1", width)
        layer(f"{name}.mlp.fc1", inner, width)
        layer(f"{name}.mlp.fc2", width, inner)
        layer(f"{name}.layer_norm2", width)
    layer("post_layernorm", width)
    if settings["projection_dim"]:
        shapes["visual_projection.weight"] = (settings["projection_dim"], width)
    return shapes


def check_tensors(component: Component, needed: Shapes, what: str) -> None:
    """Raise ModelError for a tensor that is missing, surplus, misshapen, or stored as what is no float."""
    assert component.header is not None
    path = component.header.path
    missing = [name for name in needed if name not in component.sources]
    surplus = [name for name in component.sources if name not in needed]
    for names, fault in ((missing, "missing"), (surplus, "too many")):
        if names:
            raise ModelError(f"{path}: {listing(names)} {fault} in {what}; fetch it again")
    for name, shape in needed.items():
        if tuple(component.shape(name)) != shape:
            raise ModelError(
                f"{path}: {name} is {component.shape(name)}, not {list(shape)}, in {what}; fetch it again"
            )
        if component.dtype(name) not in FLOATS:
            raise ModelError(
                f"{path}: {name} is stored as {component.dtype(name)}, which no network here computes with"
            )


def _check_tensors(component: Component, needed: Shapes) -> None:
    check_tensors(component, needed, "this image encoder")
