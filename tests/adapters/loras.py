"""LoRA files for tests: every spelling that trainers use, with values from a seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from sdcli.checkpoints import tensor_shapes, toy
from sdcli.checkpoints.keys.adapters import ldm_path

RANK = 2
NAMINGS = ("kohya", "ldm", "diffusers", "peft")
SUFFIXES = {
    "kohya": (".lora_down.weight", ".lora_up.weight"),
    "ldm": (".lora_down.weight", ".lora_up.weight"),
    "diffusers": (".lora.down.weight", ".lora.up.weight"),
    "peft": (".lora_A.weight", ".lora_B.weight"),
}


def shapes(model: str) -> dict[str, Mapping[str, list[int]]]:
    """The shapes of the tensors of a test model, by part."""
    family, _ = toy.family(model)
    parts = ("unet", *family.text_encoders)
    return {part: tensor_shapes.of_network(part, family.configs[part], model) for part in parts}


def weights(
    model: str, seed: int = 0, parts: tuple[str, ...] = ()
) -> dict[tuple[str, str], tuple[Tensor, Tensor]]:
    """(part, module) -> (down, up) of every linear layer and convolution of a test model."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for part, own in shapes(model).items():
        for name, shape in own.items():
            if (
                len(shape) not in (2, 4)
                or not name.endswith(".weight")
                or "embeddings." in name
                or "norm" in name
            ):
                continue
            if parts and part not in parts:
                continue
            outputs, *inputs = shape
            kernel = [1, 1] if len(shape) == 4 else []
            down = torch.randn(RANK, *inputs, generator=generator) * 0.2
            up = torch.randn(outputs, RANK, *kernel, generator=generator) * 0.2
            found[part, name.removesuffix(".weight")] = (down, up)
    return found


def spelled(model: str, part: str, module: str, naming: str) -> str:
    """The module as the trainers of this naming spell it."""
    names = shapes(model)["unet"]
    has_two = len(shapes(model)) == 3
    if part == "unet":
        old = ldm_path(module, names)
        return {
            "kohya": f"lora_unet_{(old if has_two else module).replace('.', '_')}",
            "ldm": f"diffusion_model.{old}",
            "diffusers": f"unet.{module}",
            "peft": f"unet.base_model.model.{module}",
        }[naming]
    number = {"text_encoder": "1", "text_encoder_2": "2"}[part] if has_two else ""
    clip = "clip_g" if part == "text_encoder_2" else "clip_l"
    return {
        "kohya": f"lora_te{number}_text_model_{module.replace('.', '_')}",
        "ldm": f"text_encoders.{clip}.transformer.text_model.{module}",
        "diffusers": f"{part}.text_model.{module}",
        "peft": f"{part}.base_model.model.text_model.{module}",
    }[naming]


def tensors(
    model: str, naming: str = "kohya", seed: int = 0, alpha: float | None = 1.0, parts: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """The tensors of a LoRA file of a test model."""
    down_suffix, up_suffix = SUFFIXES[naming]

    def pairs() -> Iterator[tuple[str, Tensor]]:
        for (part, module), (down, up) in weights(model, seed, parts).items():
            name = spelled(model, part, module, naming)
            yield f"{name}{down_suffix}", down
            yield f"{name}{up_suffix}", up
            if alpha is not None:
                yield f"{name}.alpha", torch.tensor(alpha)

    return dict(pairs())


def write(path: Path, model: str = "test:sd1", metadata: dict[str, str] | None = None, **how) -> Path:
    """A LoRA file of a test model; `how` as in `tensors`."""
    save_file(tensors(model, **how), path, metadata)
    return path
