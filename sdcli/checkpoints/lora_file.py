"""LoRA files: which tensors change which module of a model, told by the header alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from sdcli.checkpoints import header, lora_kinds
from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.checkpoints.component import listing
from sdcli.checkpoints.embedding_file import BUNDLED
from sdcli.checkpoints.header import Entry, Header
from sdcli.checkpoints.keys.adapters import Module, spellings
from sdcli.checkpoints.lora_kinds import Kind
from sdcli.checkpoints.lora_suffixes import split_key
from sdcli.checkpoints.tensor_shapes import Shapes, of_network
from sdcli.errors import ModelError, UsageError
from sdcli.request.loras import Lora

MODELS = {768: "SD 1", 1024: "SD 2", 2048: "SDXL"}
"""Width of the text that a U-Net's cross-attention reads -> the models of that width."""

_ARCHITECTURES = {
    "stable-diffusion-v1": "SD 1",
    "stable-diffusion-v2": "SD 2",
    "stable-diffusion-xl": "SDXL",
    "sd_v1": "SD 1",
    "sd_v2": "SD 2",
    "sdxl": "SDXL",
}
"""How the metadata name a base model, by its beginning."""


@dataclass(frozen=True)
class Change:
    """What a file does to one module: the kind of change, and its tensors by their suffixes.

    `scale` is what the file's metadata multiply it with, where no tensor says so.
    """

    module: Module
    kind: Kind
    tensors: Mapping[str, Entry]
    scale: float | None = None


@dataclass(frozen=True)
class LoraFile:
    """The tensors of a file by the module that they name, in the file's own spelling, and by their suffixes."""

    header: Header
    modules: Mapping[str, Mapping[str, Entry]]
    others: Sequence[str] = ()  # keys that belong to no module
    bundled: Sequence[str] = ()  # keys of embeddings
    peft: Mapping[str, Any] = field(
        default_factory=dict
    )  # peft's config, by network: "" or unet, text_encoder, …

    @property
    def path(self) -> Path:
        """The file."""
        return self.header.path

    @property
    def trained_for(self) -> str:
        """The models that it was trained for, such as `SD 1`, by its widths or else its metadata; empty if unknown."""
        return _by_widths(self.modules) or _by_metadata(self.header.metadata)

    @property
    def kinds(self) -> tuple[str, ...]:
        """What its changes are called, each once: LoRA, LoHa, …"""
        found = {_name(self.path, module, tensors) for module, tensors in self.modules.items()}
        return tuple(sorted(found))

    @property
    def bundled_names(self) -> tuple[str, ...]:
        """The names of the embeddings in it."""
        return tuple(dict.fromkeys(key.removeprefix(BUNDLED).partition(".")[0] for key in self.bundled))

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks of its changes, each once, in order."""
        found = {lora_kinds.rank(tensors) for tensors in self.modules.values()}
        return tuple(sorted(rank for rank in found if rank))


def read_header(path: Path) -> LoraFile:
    """The modules of a LoRA file, by its header; raises ModelError if it is no safetensors file, or none of LoRA."""
    if not path.exists():
        raise ModelError(f"{path}: there is no such LoRA; check the path")
    head = header.read(path)
    modules: dict[str, dict[str, Entry]] = {}
    others, bundled = [], []
    for key, entry in head.tensors.items():
        split = split_key(key)
        if key.startswith(BUNDLED):
            bundled.append(key)
        elif split is None:
            others.append(key)
        elif modules.setdefault(split[0], {}).setdefault(split[1], entry) is not entry:
            other = modules[split[0]][split[1]].name
            raise ModelError(
                f"{path}: {other[:80]} and {key[:80]} are two names of one tensor; get a file with one"
            )
    others += [entry.name for each in modules.values() if not _is_telling(each) for entry in each.values()]
    modules = {module: each for module, each in modules.items() if _is_telling(each)}
    if not modules:
        has = listing(others) if others else "no tensors"
        raise ModelError(f"{path}: has {has}, and is no LoRA; sd info {path} tells what it is")
    return LoraFile(head, modules, others, bundled, _peft_config(head))


KIND_NAMES = {
    "lora": "LoRA",
    "loha": "LoHa",
    "lokr": "LoKr",
    "ia3": "(IA)^3",
    "glora": "GLoRA",
    "boft": "BOFT",
    "full": "full difference",
    "norm": "norm difference",
}
"""Kind -> what it is called, where that is not OFT."""


def _name(path: Path, module: str, tensors: Mapping[str, Entry]) -> str:
    """What the change of a module is called; a DoRA is named so, whatever it scales. Raises ModelError."""
    kind = lora_kinds.recognise(path, module, tensors)
    return "DoRA" if {"dora_scale", "magnitude"} & tensors.keys() else KIND_NAMES.get(kind, "OFT")


def _is_telling(tensors: Mapping[str, Entry]) -> bool:
    """True for tensors that nothing but an adapter has; `weight` alone is that of any layer."""
    return bool(tensors.keys() - {"weight", "scale", "alpha"}) or tensors.keys() >= {"weight", "on_input"}


def is_lora(path: Path) -> bool:
    """True if the file has the tensors of a LoRA or of one of its kin, and few others."""
    try:
        found = read_header(path)
    except ModelError:
        return False
    return len(found.others) <= len(found.modules)


def changes(
    file: LoraFile, name: str, shapes: Mapping[str, Shapes], allow_partial: bool = False
) -> tuple[list[Change], list[str]]:
    """(what the file does to the modules of the model of this name, the keys that fit nothing in it).

    `shapes` are those of the model's tensors, by part. Raises ModelError if the file is for other models, if nothing
    fits, if something does not and that is not allowed, or if the tensors of a module contradict each other.
    """
    _check_family(file, name, shapes)
    table = spellings(shapes)
    found: dict[Module, Change] = {}
    spelled: dict[Module, str] = {}
    left = list(file.others)
    for spelling, tensors in file.modules.items():
        module = table.get(spelling)
        if module is None:
            left += [entry.name for entry in tensors.values()]
            continue
        if module in found:
            raise ModelError(
                f"{file.path}: {spelled[module][:80]} and {spelling[:80]} are two names of one module; "
                "get a file with one"
            )
        own = shapes[module.part]
        has_bias = f"{module.path}.bias" in own
        try:
            kind = lora_kinds.check(file.path, spelling, tensors, own[f"{module.path}.weight"])
        except ModelError:
            if not allow_partial:
                raise
            left += [entry.name for entry in tensors.values()]
            continue
        if not has_bias and (bias := {"diff_b", "b_norm"} & tensors.keys()):
            raise ModelError(
                f"{file.path}: {spelling[:80]}: has {bias.pop()}, and the model's layer has no bias; "
                "is it for another model?"
            )
        if kind == "oft_inputs" and "base_model.model." in spelling and len(own[f"{module.path}.weight"]) > 2:
            raise ModelError(
                f"{file.path}: {spelling[:80]}: peft turns the inputs of a convolution one way when it trains and the "
                "other when it merges; get a file without OFT on convolutions"
            )
        spelled[module] = spelling
        found[module] = Change(module, kind, tensors, _peft_scale(file, module, tensors))
    _check_left(file, name, found, left, allow_partial)
    return list(found.values()), left


def check_loras(found: Checkpoint, paths: Sequence[str], allow_partial: bool) -> Mapping[str, Sequence[str]]:
    """The keys in each file that fit nothing in a model, by the files' paths; no networks need to be loaded.

    Raises ModelError for a LoRA that does not fit the model, as `changes` does.
    """
    if not paths:
        return {}
    shapes = {
        part: of_network(part, found.components[part].config, str(found.path))
        for part in ("unet", *found.family.text_encoders)
    }
    return {
        path: changes(read_header(Path(path)), found.name, shapes, allow_partial)[1]
        for path in dict.fromkeys(paths)
    }


def check_blocks(family: str, uses: Sequence[Lora]) -> None:
    """Raise UsageError for block weights that are counted for the other families."""
    wanted = (12, 20) if family.startswith("sdxl") else (17, 26)
    for lora in uses:
        if lora.blocks is not None and len(lora.blocks) not in wanted:
            raise UsageError(
                f"--lora {lora.path}: {len(lora.blocks)} block weights, and this model takes {wanted[0]} or {wanted[1]}"
            )


def _check_family(file: LoraFile, name: str, shapes: Mapping[str, Shapes]) -> None:
    own, other = _models_of(shapes), file.trained_for
    if own and other and own != other:
        raise ModelError(f"{file.path} was made for {other}, and {name} is {own}; use one made for {own}")


def _check_left(
    file: LoraFile, name: str, found: Mapping[Module, Change], left: Sequence[str], allow_partial: bool
) -> None:
    if not found:
        made_for = (
            f"; it was made for {file.trained_for}" if file.trained_for else "; use one made for this model"
        )
        raise ModelError(f"{file.path}: {listing(list(left))} fit nothing in {name}{made_for}")
    if left and not allow_partial:
        raise ModelError(
            f"{file.path}: {listing(list(left))} of {len(file.header.tensors)} fit nothing in {name}; "
            "--allow-partial draws without them"
        )


def _models_of(shapes: Mapping[str, Shapes]) -> str:
    widths = (shape[1] for key, shape in shapes["unet"].items() if key.endswith("attn2.to_k.weight"))
    return MODELS.get(next(widths, 0), "")


def _by_widths(modules: Mapping[str, Mapping[str, Entry]]) -> str:
    for spelling, tensors in modules.items():
        if spelling.replace(".", "_").endswith(("attn2_to_k", "attn2_to_v", "attn2_processor_to_k")):
            for suffix in ("down", "hada_w1_b", "hada_w2_b", "diff"):
                shape = tensors[suffix].shape if suffix in tensors else ()
                if len(shape) > 1 and (model := MODELS.get(shape[1])):
                    return model
    return "SDXL" if any("lora_te2_" in spelling for spelling in modules) else ""


def _by_metadata(metadata: Mapping[str, str]) -> str:
    named = metadata.get("modelspec.architecture") or metadata.get("ss_base_model_version") or ""
    return next((model for start, model in _ARCHITECTURES.items() if named.lower().startswith(start)), "")


# --- peft: the alpha is in a config, not in a tensor

MAX_CONFIG_BYTES = 1_000_000


def _peft_config(head: Header) -> dict[str, Any]:
    """diffusers' `lora_adapter_metadata`, or the adapter_config.json beside peft's adapter_model.safetensors."""
    beside = head.path.with_name("adapter_config.json")
    text = head.metadata.get("lora_adapter_metadata", "")
    if not text and head.path.name == "adapter_model.safetensors" and beside.is_file():
        if beside.stat().st_size > MAX_CONFIG_BYTES:
            raise ModelError(f"{beside}: far more than a config has; it is not read")
        text = beside.read_text(encoding="utf-8", errors="replace")
    if not text:
        return {}
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise ModelError(f"{head.path}: what peft says of its alphas is not JSON; fetch it again")
    return config


def _peft_scale(file: LoraFile, module: Module, tensors: Mapping[str, Entry]) -> float | None:
    """alpha / rank, or alpha / sqrt(rank), by peft's config; None without one, or if a tensor says it."""
    rank = lora_kinds.rank(tensors)
    config = file.peft
    if not config or not rank or {"alpha", "scale"} & tensors.keys():
        return None
    prefix = f"{module.part}." if f"{module.part}.lora_alpha" in config else ""
    alpha = config.get(f"{prefix}lora_alpha", rank)
    patterns = config.get(f"{prefix}alpha_pattern")
    for pattern, value in patterns.items() if isinstance(patterns, dict) else ():
        if module.path == pattern or fnmatch(module.path, f"*.{pattern}"):
            alpha = value
    if type(alpha) not in (int, float) or not math.isfinite(alpha):
        raise ModelError(
            f"{file.path}: peft's config says alpha {alpha!r}, which is no number; fetch it again"
        )
    rooted = config.get(f"{prefix}use_rslora") is True
    return float(alpha) / (math.sqrt(rank) if rooted else rank)
