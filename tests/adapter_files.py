"""Adapter files: hypernetworks and IP-Adapters for tests, whose values follow from their names."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file


def values(name: str, shape: Sequence[int], scale: float, offset: float = 0.0) -> np.ndarray:
    """Normally distributed values from a generator seeded with the name, rounded to float16, as float32."""
    drawn = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))).standard_normal(
        size=tuple(shape), dtype=np.float32
    )
    return (drawn * np.float32(scale) + np.float32(offset)).astype(np.float16).astype(np.float32)


def hypernet(
    path: Path,
    widths: Sequence[int],
    structure: Sequence[float] = (1, 2, 1),
    activation: str = "relu",
    layer_norm: bool = False,
    activate_output: bool = False,
    dropout: Sequence[float] = (),
    **metadata: Any,
) -> Path:
    """A hypernetwork. `dropout` is a share for each layer of the structure, which only moves the layers' numbers."""
    dropout = dropout or [0] * len(structure)
    tensors = {}
    for width in widths:
        for half in (0, 1):
            number = 0
            for i in range(len(structure) - 1):
                inputs, outputs = int(width * structure[i]), int(width * structure[i + 1])
                last = i == len(structure) - 2
                layers = [("linear", [outputs, inputs], (0.3 if last else 1) / math.sqrt(inputs), 0.0)]
                if activation != "linear" and (not last or activate_output):
                    layers.append(("activation", [], 0, 0))
                if layer_norm:
                    layers.append(("norm", [outputs], 0.1, 1.0))
                for kind, shape, scale, offset in layers:
                    if kind != "activation":
                        name = f"{width}.{half}.linear.{number}"
                        tensors[f"{name}.weight"] = values(f"hyper.{name}.weight", shape, scale, offset)
                        tensors[f"{name}.bias"] = values(f"hyper.{name}.bias", [outputs], 0.05)
                    number += 1
                number += dropout[i + 1] > 0
    told = {
        "layer_structure": list(structure),
        "activation_func": activation,
        "is_layer_norm": layer_norm,
        "activate_output": activate_output,
        "dropout_structure": list(dropout),
        "name": path.stem,
        "step": 1000,
    }
    return write(path, tensors, {key: json.dumps(value) for key, value in (told | metadata).items()})


def write(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> Path:
    """A safetensors file with these tensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), str(path), dict(metadata or {}))
    return path


def network(shapes: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    """The tensors of a network of these shapes, with values that keep their size through it."""
    return {name: _of_network(name, shape) for name, shape in shapes.items()}


def _of_network(name: str, shape: Sequence[int]) -> np.ndarray:
    leaf = name.rpartition(".")[2]
    if len(shape) == 1:
        return values(name, shape, 0.1, 1.0 if leaf == "weight" else 0.0)
    if leaf == "latents":
        return values(name, shape, 0.5)
    return values(name, shape, 1 / math.sqrt(math.prod(shape[1:])))


def ip_adapter_shapes(
    layers: Sequence[int], context: int, kind: str = "plain", reads: int = 24, tokens: int = 4
) -> dict[str, list[int]]:
    """The tensors of an IP-Adapter for cross-attention layers of these widths."""
    if kind == "plain":
        shapes = {
            "proj.weight": [tokens * context, reads],
            "proj.bias": [tokens * context],
            "norm.weight": [context],
            "norm.bias": [context],
        }
    elif kind == "full_face":
        shapes = {
            "proj.0.weight": [reads, reads],
            "proj.0.bias": [reads],
            "proj.2.weight": [context, reads],
            "proj.2.bias": [context],
            "proj.3.weight": [context],
            "proj.3.bias": [context],
        }
    else:
        shapes = _perceiver(context, reads, tokens)
    shapes = {f"image_proj.{name}": shape for name, shape in shapes.items()}
    for i, width in enumerate(layers):
        for half in "kv":
            shapes[f"ip_adapter.{2 * i + 1}.to_{half}_ip.weight"] = [width, context]
    return shapes


def _perceiver(
    context: int, reads: int, tokens: int, width: int = 32, inner: int = 64
) -> dict[str, list[int]]:
    shapes = {
        "latents": [1, tokens, width],
        "proj_in.weight": [width, reads],
        "proj_in.bias": [width],
        "proj_out.weight": [context, width],
        "proj_out.bias": [context],
        "norm_out.weight": [context],
        "norm_out.bias": [context],
    }
    for i in range(4):
        for norm in ("0.norm1", "0.norm2", "1.0"):
            shapes |= {f"layers.{i}.{norm}.weight": [width], f"layers.{i}.{norm}.bias": [width]}
        shapes |= {
            f"layers.{i}.0.to_q.weight": [inner, width],
            f"layers.{i}.0.to_kv.weight": [2 * inner, width],
            f"layers.{i}.0.to_out.weight": [width, inner],
            f"layers.{i}.1.1.weight": [4 * width, width],
            f"layers.{i}.1.3.weight": [width, 4 * width],
        }
    return shapes


def ip_adapter(path: Path, layers: Sequence[int], context: int, kind: str = "plain", **sizes: int) -> Path:
    """An IP-Adapter for cross-attention layers of these widths."""
    return write(path, network(ip_adapter_shapes(layers, context, kind, **sizes)))


ENCODER = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "projection_dim": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 7,
    "hidden_act": "gelu",
}
"""A small image encoder."""


def image_encoder(folder: Path, **changes: Any) -> Path:
    """An image encoder with random weights, saved by transformers with its config; returns the file."""
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    with torch.random.fork_rng():
        torch.manual_seed(0)
        CLIPVisionModelWithProjection(CLIPVisionConfig(**ENCODER | changes)).save_pretrained(folder)
    return folder / "model.safetensors"


def open_clip_names(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors of an image encoder as OpenCLIP names and packs them."""
    renamed = {
        "vision_model.embeddings.class_embedding": "visual.class_embedding",
        "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
        "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
        "visual_projection.weight": "visual.proj",
    }
    words = {
        "vision_model.pre_layrnorm": "visual.ln_pre",
        "vision_model.post_layernorm": "visual.ln_post",
        "vision_model.encoder.layers": "visual.transformer.resblocks",
        "self_attn.out_proj": "attn.out_proj",
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }
    packed = {}
    for name, tensor in tensors.items():
        if ".k_proj." in name or ".v_proj." in name:
            continue
        new = renamed.get(name, name)
        for old, word in words.items():
            new = new.replace(old, word)
        if ".q_proj." in name:
            new = new.replace("self_attn.q_proj.", "attn.in_proj_")
            tensor = np.concatenate([tensors[name.replace(".q_proj.", f".{each}_proj.")] for each in "qkv"])
        packed[new] = tensor.T.copy() if new == "visual.proj" else tensor
    return packed
