"""Adapter names: every way in which trainers spell the modules of a model -> the part and its module.

The table is built from the model's own tensors, never by parsing a spelling: `_` is a separator in some of them and a
part of names in all (`to_out_0`, `time_emb_proj`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from sdcli.checkpoints.keys import ldm

COMFYUI_TEXT = {"text_encoder": ("clip_l", "clip_h"), "text_encoder_2": ("clip_g",)}
"""ComfyUI's names of the text encoders, by part; clip_h is SD 2's only one."""


class Module(NamedTuple):
    """A module of a network: the part that the network is, such as `unet`, and the module's path in it."""

    part: str
    path: str


def spellings(tensors: Mapping[str, Collection[str]]) -> dict[str, Module]:
    """Every spelling of every module of a model, by the names of the tensors of its parts."""
    parts = [part for part in tensors if part == "unet" or part.startswith("text_encoder")]
    table: dict[str, Module] = {}
    for part in parts:
        names = tensors[part]
        for path in dict.fromkeys(name.rpartition(".")[0] for name in names if name.endswith(".weight")):
            spelled = _unet(path, names) if part == "unet" else _text(path, part, parts)
            for spelling in spelled:
                table.setdefault(spelling, Module(part, path))
    return table


def ldm_path(path: str, names: Collection[str]) -> str:
    """The LDM name of a module of a U-Net with the tensors `names`, such as `input_blocks.1.1.proj_in`.

    A module that LDM has no name for keeps its own.
    """
    key = ldm.find_unet_key(f"{path}.weight", names)
    return path if key is None else key.removesuffix(".weight")


def _unet(path: str, names: Collection[str]) -> Iterator[str]:
    old = ldm_path(path, names)
    for dotted in (path, old):
        underscored = dotted.replace(".", "_")
        yield f"lora_unet_{underscored}"  # kohya: diffusers' path for SD 1 and 2, LDM's for SDXL; OneTrainer
        yield f"oft_unet_{underscored}"  # kohya's OFT
        yield f"lycoris_{underscored}"  # SimpleTuner
    yield f"diffusion_model.{old}"  # ComfyUI, OneTrainer
    yield f"unet.{path}"  # diffusers
    yield path  # diffusers before it had prefixes
    yield f"base_model.model.{path}"  # peft
    yield f"unet.base_model.model.{path}"
    if ".processor" not in path and path.endswith((".to_q", ".to_k", ".to_v", ".to_out.0")):
        attention, _, projection = path.removesuffix(".0").rpartition(".")
        for prefix in ("unet.", ""):
            yield f"{prefix}{attention}.processor.{projection}"  # diffusers before 0.22


def _text(path: str, part: str, parts: Collection[str]) -> Iterator[str]:
    """`path` has no leading `text_model.`; files have it, or not if transformers 5.6 or newer wrote them."""
    number = "2" if part == "text_encoder_2" else "1" if "text_encoder_2" in parts else ""
    for dotted in (f"text_model.{path}", path):
        underscored = dotted.replace(".", "_")
        yield f"lora_te{number}_{underscored}"
        yield f"lycoris_text_encoder{'_2' * (number == '2')}_{underscored}"
        yield f"{part}.{dotted}"
        yield f"{part}.base_model.model.{dotted}"
        if not number:  # a peft file holds one network, and does not say which of two text encoders that is
            yield f"base_model.model.{dotted}"
        for name in COMFYUI_TEXT[part]:
            yield f"text_encoders.{name}.transformer.{dotted}"
